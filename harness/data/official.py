"""The entries of the registry: official files, their sources, sums and sizes (spec: raw formats of the data sets)."""

from harness.data.kinds import DatasetSpec, RawFile, Reader

_GROUPLENS = "GroupLens usage licence: research only, no redistribution (Harper and Konstan 2015)"
_AMAZON = "no formal licence; research use with citation (McAuley et al. 2015; Ni et al. 2019; Hou et al. 2024)"
_SNAP_AMAZON = "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles/"
_OLD_AMAZON = "https://jmcauley.ucsd.edu/data/amazon/categoryFiles/"
_LAB = "https://mcauleylab.ucsd.edu/public_datasets/"
_OLD_LAB = "https://datarepo.eng.ucsd.edu/mcauley_group/"


def _tables(*stems: str) -> tuple[RawFile, ...]:
    """Parquet and CSV tables with columns for user, item and time stamp."""
    return tuple(RawFile(name=f"{stem}{suffix}", reader="table") for stem in stems for suffix in (".parquet", ".csv"))


def _amazon_2014(
    name: str, reader: Reader, edition: str, rows: int, megabytes: int, sha256: str | None = None
) -> RawFile:
    return RawFile(
        name=name,
        reader=reader,
        edition=edition,
        urls=(_SNAP_AMAZON + name, _OLD_AMAZON + name),
        sha256=sha256,
        rows=rows,
        megabytes=megabytes,
    )


def _amazon_2018(
    name: str, reader: Reader, edition: str, rows: int | None = None, megabytes: int | None = None, sha256: str = ""
) -> RawFile:
    return RawFile(
        name=name,
        reader=reader,
        edition=edition,
        urls=(
            f"{_LAB}data/amazon_v2/categoryFilesSmall/{name}",
            f"{_OLD_LAB}data/amazon_v2/categoryFilesSmall/{name}",
        ),
        sha256=sha256 or None,
        rows=rows,
        megabytes=megabytes,
    )


def _amazon_2023(category: str, core: str, sha256: str = "") -> RawFile:
    name = f"{core}/rating_only/{category}.csv.gz"
    return RawFile(
        name=name,
        reader="amazon_csv",
        edition=f"2023-{core}",
        urls=(f"{_LAB}data/amazon_2023/benchmark/{name}",),
        sha256=sha256 or None,
    )


def _yelp_kaggle(edition: str, sha256: str, rows: int | None = None) -> RawFile:
    """Kaggle's archive.zip of one edition; all have that name, so `btsr-data add` gives it the edition's."""
    return RawFile(name=f"yelp-{edition}.zip", reader="yelp_json", edition=edition, sha256=sha256, rows=rows)


_YELP_REVIEWS = "yelp_academic_dataset_review.json"

OFFICIAL: tuple[DatasetSpec, ...] = (
    DatasetSpec(
        key="synthetic",
        title="Synthetic Markov chain",
        files=(),
        url="",
        licence="part of btsr",
        note="generated, nothing to download; the best achievable NDCG@10 is known",
    ),
    DatasetSpec(
        key="ml1m",
        title="MovieLens 1M",
        files=(
            RawFile(
                name="ml-1m.zip",
                reader="movielens",
                urls=("https://files.grouplens.org/datasets/movielens/ml-1m.zip",),
                sha256="a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
                megabytes=6,
                rows=1_000_209,
            ),
            RawFile(name="ml-1m/ratings.dat", reader="movielens", rows=1_000_209),
            RawFile(name="ratings.dat", reader="movielens", rows=1_000_209),
            *_tables("ml-1m"),
        ),
        url="https://files.grouplens.org/datasets/movielens/ml-1m.zip",
        licence=_GROUPLENS,
    ),
    DatasetSpec(
        key="yelp",
        title="Yelp",
        files=(
            RawFile(
                name="Yelp-JSON.zip",
                reader="yelp_json",
                edition="2023",
                urls=("https://business.yelp.com/external-assets/files/Yelp-JSON.zip",),
                sha256="7196433b8a43dd1cbbc3054c5ee85447a56d5fdee8652f8dc7aa5aad579ad7cd",
                megabytes=4_000,
                consent=True,
            ),
            _yelp_kaggle("2022", "a07689ac11ea09b8cb04993ce4593f7157696088e707d8352c754dde279bfd5a", 6_990_280),
            _yelp_kaggle("2021", "a92fa71dd985d278a3c88c7ffe2a4d3be964a9eec3ba53b1720d17a569804af4", 8_635_403),
            _yelp_kaggle("2020", "ad0e83d9f273b1dcbff254eb38d66fc5794f4c9e4900a031beeb64227428cf7f", 8_021_122),
            _yelp_kaggle("2019", "ed66da89ebf6141f678632cadb694308581b7d32cd8b9e9dda03520dc25d80a7"),
            _yelp_kaggle("2018", "7c5157bb92c92b03a2323df6cda7c4d80b8b6bbcd1a455cc8562ee746e1db4a7", 5_261_669),
            *(
                RawFile(name=name, reader="yelp_json", edition="unpacked")
                for name in ("yelp_dataset.tar", "yelp_dataset.tgz", _YELP_REVIEWS, f"{_YELP_REVIEWS}.gz")
            ),
            *(
                RawFile(name=f"yelp-2019-5core{suffix}", reader="table", edition="2019-5core")
                for suffix in (".parquet", ".csv")
            ),
        ),
        url="https://www.yelp.com/dataset",
        licence="Yelp Dataset terms of use: academic, no redistribution; to be accepted on the page first",
        note="yelp-2019-5core, reviews of 2019, is a subset of the paper's Yelp; papers rarely name the edition",
    ),
    DatasetSpec(
        key="gowalla",
        title="Gowalla",
        files=(
            RawFile(
                name="loc-gowalla_totalCheckins.txt.gz",
                reader="snap",
                urls=("https://snap.stanford.edu/data/loc-gowalla_totalCheckins.txt.gz",),
                sha256="c1c3e19effba649b6c89aeab3c1f9459fad88cfdc2b460fc70fd54e295d83ea0",
                megabytes=105,
                rows=6_442_892,
            ),
            RawFile(name="loc-gowalla_totalCheckins.txt", reader="snap", rows=6_442_892),
            *_tables("gowalla-nyc"),
        ),
        url="https://snap.stanford.edu/data/loc-gowalla.html",
        licence="none given; cite Cho, Myers and Leskovec 2011",
        note="gowalla-nyc, check-ins in a New York City box, is a subset of the paper's Gowalla",
    ),
    DatasetSpec(
        key="beauty",
        title="Amazon Beauty",
        files=(
            _amazon_2014("reviews_Beauty_5.json.gz", "amazon_json", "2014-5core", 198_502, 45),
            *(
                RawFile(name=f"amazon-beauty-2014-5core{suffix}", reader="table", edition="2014-5core", rows=198_502)
                for suffix in (".parquet", ".csv")
            ),
            _amazon_2014(
                "ratings_Beauty.csv",
                "amazon_csv",
                "2014-ratings",
                2_023_070,
                82,
                "17d5232b90444beecfe758ce1446e5300230491f3a88ac802992ca95fc4c150f",
            ),
            _amazon_2018(
                "All_Beauty.csv",
                "amazon_csv",
                "2018-all",
                371_345,
                15,
                "b3d9260771f9fe489a61180b9ff407e15e10f481a287848f69bc4709b669246f",
            ),
            _amazon_2018(
                "Luxury_Beauty.csv",
                "amazon_csv",
                "2018-luxury",
                574_628,
                24,
                "5e1ab08a0147412d6a15ab4b8259df7fbc1fe09c747ba5c46486081ee4d68d24",
            ),
            _amazon_2018("All_Beauty_5.json.gz", "amazon_json", "2018-all-5core"),
            _amazon_2018("Luxury_Beauty_5.json.gz", "amazon_json", "2018-luxury-5core"),
            _amazon_2023(
                "Beauty_and_Personal_Care",
                "0core",
                "dd89a914e8c71d811c49a7e8fbdfc251c08bffb461b9544275e94018cb17f741",
            ),
            _amazon_2023("Beauty_and_Personal_Care", "5core"),
        ),
        url=f"{_SNAP_AMAZON}reviews_Beauty_5.json.gz",
        licence=_AMAZON,
        note="2014 edition, official 5-core, unless an edition is named; 2018 has no category Beauty",
    ),
    DatasetSpec(
        key="kindle_store",
        title="Amazon Kindle Store",
        files=(
            _amazon_2018(
                "Kindle_Store.csv",
                "amazon_csv",
                "2018-ratings",
                5_722_988,
                230,
                "f2fac32f72f51857f164c2c1671db141f06b2649608ebf1af2efba02a2fb219b",
            ),
            _amazon_2018("Kindle_Store_5.json.gz", "amazon_json", "2018-5core", 2_222_983),
            _amazon_2014(
                "ratings_Kindle_Store.csv",
                "amazon_csv",
                "2014-ratings",
                3_205_467,
                130,
                "616edbb9ee9b5e1f0212e0a75e226df3abb66548d833df3ea8a3c53942541200",
            ),
            _amazon_2014("reviews_Kindle_Store_5.json.gz", "amazon_json", "2014-5core", 982_619, 290),
            _amazon_2023("Kindle_Store", "0core", "ff546c451edfb403d10099912b816b11600e689a599621167d4847331fdc0a0d"),
            _amazon_2023("Kindle_Store", "5core"),
            *(
                RawFile(name=f"amazon-books-2014-usersample-5core{suffix}", reader="table", edition="books-stand-in")
                for suffix in (".parquet", ".csv")
            ),
        ),
        url=f"{_LAB}data/amazon_v2/categoryFilesSmall/Kindle_Store.csv",
        licence=_AMAZON,
        note="amazon-books-2014-usersample-5core is a stand-in: Amazon Books 2014, a sample of users, not Kindle Store",
    ),
    DatasetSpec(
        key="behance",
        title="Behance",
        files=(
            RawFile(
                name="Behance_appreciate_1M.gz",
                reader="behance",
                urls=(
                    f"{_LAB}gdrive/behance/Behance_appreciate_1M.gz",
                    f"{_OLD_LAB}gdrive/behance/Behance_appreciate_1M.gz",
                ),
                sha256="b25b96fbfa913914b13c0c5ae38b196363d5791f2f87127bc3cdcfddb9d3d793",
                rows=1_000_000,
            ),
            RawFile(name="Behance_appreciate_1M", reader="behance", rows=1_000_000),
        ),
        url=f"{_LAB}gdrive/behance/Behance_appreciate_1M.gz",
        licence="none given; cite He, Fang, Wang and McAuley 2016",
        note="the download was reported to be corrupt in December 2025: it is checked",
    ),
    DatasetSpec(
        key="beeradvocate",
        title="BeerAdvocate",
        files=(
            RawFile(
                name="beeradvocate.json.gz",
                reader="beer_json",
                edition="json",
                urls=(f"{_LAB}data/beer/beeradvocate.json.gz", f"{_OLD_LAB}data/beer/beeradvocate.json.gz"),
                sha256="1e62c122f3645e46bffa6fd00d5d8b46ee4f61dc01fc8a60b0c35be16c2315a8",
            ),
            RawFile(name="beer_reviews.csv", reader="beer_csv", edition="csv", rows=1_586_614),
        ),
        url=f"{_LAB}data/beer/beeradvocate.json.gz",
        licence="none given; cite McAuley, Leskovec and Jurafsky 2012",
        note="an extra, not in the tables of the paper",
    ),
    DatasetSpec(
        key="ml100k",
        title="MovieLens 100K",
        files=(
            RawFile(
                name="ml-100k.zip",
                reader="movielens_tab",
                urls=("https://files.grouplens.org/datasets/movielens/ml-100k.zip",),
                megabytes=5,
                rows=100_000,
            ),
            RawFile(name="ml-100k/u.data", reader="movielens_tab", rows=100_000),
            RawFile(name="u.data", reader="movielens_tab", rows=100_000),
            *_tables("ml-100k"),
        ),
        url="https://files.grouplens.org/datasets/movielens/ml-100k.zip",
        licence=_GROUPLENS,
        note="small, for quick runs on real data; not in the paper",
    ),
)
