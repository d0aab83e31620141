import pickle
from pathlib import Path

import pytest

from mammoprep.errors import MammoprepError, MissingFileError, UnknownNameError


def test_missing_file_says_what_and_what_to_do():
    assert (
        str(MissingFileError(Path("raw/table.csv"), hint="Download it."))
        == "raw/table.csv does not exist. Download it."
    )


def test_unknown_name_suggests_the_nearest():
    error = UnknownNameError("m-odis", kind="model", known=("tiny", "m-odise"))
    assert str(error) == "There is no model 'm-odis'. Did you mean 'm-odise'?"


def test_unknown_name_lists_what_there_is_where_nothing_is_near():
    assert str(UnknownNameError("zzz", kind="model", known=("tiny", "m-odise"))).endswith("Known: tiny, m-odise.")


@pytest.mark.parametrize(
    "error",
    [
        MammoprepError("one line"),
        MissingFileError(Path("a"), hint="Look."),
        UnknownNameError("x", kind="fold", known=("y",)),
    ],
)
def test_errors_come_back_from_a_worker_process_whole(error):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
