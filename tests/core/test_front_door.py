"""The front door of core: every public name is there, and nothing is loaded before it is asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

import maildaemon_core


def test_every_public_name_is_there_and_listed_once_in_order() -> None:
    assert [name for name in maildaemon_core.__all__ if not hasattr(maildaemon_core, name)] == []
    assert len(set(maildaemon_core.__all__)) == len(maildaemon_core.__all__)
    assert set(maildaemon_core.__all__) <= set(dir(maildaemon_core))


def test_a_name_that_is_not_there_is_an_ordinary_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'MailDemon'"):
        _ = maildaemon_core.MailDemon


def test_neither_the_engine_nor_the_codec_is_loaded_before_it_is_asked_for() -> None:
    show = (
        "import sys, maildaemon_core as m; engine = [n for n in sys.modules if 'engine' in n or n == 'cattrs'];"
        "m.MailDaemon, m.read; print(engine, 'maildaemon_core.engine.daemon' in sys.modules, 'cattrs' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] True True"
