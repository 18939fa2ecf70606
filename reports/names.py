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
    "synthetic": "Synthetic",
}

METHOD_TITLES: Mapping[str, str] = {
    "sasrec_bce": "SASRec (BCE)",
    "sasrec_ce": "SASRec (CE)",
    "sasrec_sce": "SASRec (SCE)",
    "cl4srec": "CL4SRec",
    "duorec": "DuoRec",
    "ec4srec": "EC4SRec",
    "bt_sr": "BT-SR",
}


def dataset_title(key: str) -> str:
    """The data set's name in tables."""
    return DATASET_TITLES.get(key, key)


def method_title(key: str) -> str:
    """The method's name in tables."""
    return METHOD_TITLES.get(key, key)
