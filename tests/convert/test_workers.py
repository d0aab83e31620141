import threading

import pytest

from mammoprep.convert.workers import stopping


@pytest.mark.parametrize(
    ("name", "error", "told"),
    [("ExecutorManagerThread", KeyError, 0), ("ExecutorManagerThread", OSError, 1), ("another", KeyError, 1)],
)
def test_loky_s_own_error_alone_is_hushed_while_workers_are_stopped(monkeypatch, name, error, told):
    heard = []
    monkeypatch.setattr(threading, "excepthook", heard.append)

    def fail():
        raise error(6)

    with stopping():
        thread = threading.Thread(target=fail, name=name)
        thread.start()
        thread.join()
    assert len(heard) == told
    assert threading.excepthook == heard.append
