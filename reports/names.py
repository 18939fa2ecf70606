"""How data sets, methods and metrics are called on paper; keys without an entry are shown as they are."""

from collections.abc import Mapping

DATASET_TITLES: Mapping[str, str] = {
    "ml1m": "ML 1M",
    "yelp": "YELP",
    "gowalla": "Gowalla",
    "beauty": "Beauty",
    "kindle_store": "Kindle Store",
    "behance": "Behance",
    "ml100k": "ML 100K",
    "beeradvocate": "BeerAdvocate",
    "synthetic": "Synthetic",
}

METHOD_TITLES: Mapping[str, str] = {
    "sasrec_bce": "SASRec (BCE)",
    "sasrec_ce": "SASRec (CE)",
    "sasrec_sce": "SASRec (SCE)",
    "sasrec_gbce": "SASRec (gBCE)",
    "sasrec_ce_sampled": "SASRec (CE-)",
    "cl4srec": "CL4SRec",
    "duorec": "DuoRec",
    "duorec_released": "DuoRec (released)",
    "ec4srec": "EC4SRec",
    "bt_sr": "BT-SR",
}

WITH_BT = "+bt"
"""How the key of a method ends that is another method with the Barlow Twins term."""


def dataset_title(key: str) -> str:
    """The data set's name in tables."""
    return DATASET_TITLES.get(key, key)


def method_title(key: str) -> str:
    """The method's name in tables; sasrec_ce+bt is SASRec (CE) + BT."""
    base = key.removesuffix(WITH_BT)
    return METHOD_TITLES.get(base, base) + (" + BT" if base != key else "")


def count(n: int, what: str) -> str:
    """1 finished trial, 2 finished trials."""
    return f"{n:,} {what}{'' if n == 1 else 's'}"
