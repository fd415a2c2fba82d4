"""The parts of the W&B mirror that need no training: settings, captions, pictures, what a run is called."""

import json
import os
import re
from pathlib import Path

import pytest

from helpers.trainings import composed
from paribus.cli.several_runs import leave_out_wandb_id
from paribus.cli.wandb import runs_under
from paribus.core.errors import ConfigError
from paribus.tracking import wandb
from paribus.tracking.wandb import NullTracker, WandB, WandBTracker, describe_mode, has_login
from paribus.tracking.wandb_state import find_wandb_options


@pytest.mark.parametrize(
    ("field", "variable", "wanted"),
    [
        ("auto", None, "auto"),
        ("auto", "offline", "offline"),
        ("auto", "dryrun", "offline"),
        ("auto", "online", "online"),
        ("auto", "run", "online"),
        ("offline", "online", "offline"),
        ("online", None, "online"),
        ("online", "disabled", "disabled"),
        ("disabled", "online", "disabled"),
    ],
)
def test_a_mode_that_is_chosen_beats_the_variable_but_for_disabled(
    field: str, variable: str | None, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_MODE")
    if variable is not None:
        monkeypatch.setenv("WANDB_MODE", variable)
    assert WandB(mode=field).effective_mode == wanted  # type: ignore[arg-type]


def test_the_defaults_of_the_class_are_those_of_the_file() -> None:
    """A run without this tracker is synced with the class's, one with it shows the file's."""
    assert (
        find_wandb_options({"tracker": composed("tracker=wandb")["tracker"]})
        == WandB()
        == find_wandb_options({"tracker": {}})
    )


def test_disabled_starts_nothing(tmp_path: Path) -> None:
    assert isinstance(WandB()(tmp_path, 0, 1), NullTracker)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_takes_no_files_costs_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("WANDB_MODE")
    (tmp_path / "wandb").write_text("in the way")
    tracker = WandB(mode="offline")(tmp_path, 0, 1)
    assert isinstance(tracker, WandBTracker)
    tracker.log(1, {})
    tracker.close({})
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: W&B is left out")
    assert f"paribus wandb sync {tmp_path}" in line


class Busy:
    """A follower that is still at work when the run ends."""

    pid, returncode = 1, None

    def __init__(self, *_: object, **__: object) -> None:
        self.stdin = open(os.devnull, "wb")  # noqa: SIM115 — closed by the tracker

    def wait(self, timeout: float | None = None) -> None:
        if timeout is not None:
            raise wandb.subprocess.TimeoutExpired("follower", timeout)


@pytest.mark.parametrize(
    ("options", "command", "variables", "login", "heard"),
    [
        ({}, ["paribus", "train", "experiment=smoke", "every.log=2ba"], {}, "", False),
        ({}, [], {}, "machine github.com login me password x", False),
        ({}, ["paribus", "train", "tracker=wandb"], {}, "", True),
        ({}, ["paribus", "train", "tracker=[events,wandb]"], {}, "", True),
        ({}, ["paribus", "train", "tracker.wandb.project=paribus"], {}, "", True),
        ({"tags": ("a",)}, [], {}, "", True),
        ({}, [], {"WANDB_PROJECT": "mine"}, "", True),
        ({}, [], {"WANDB_MODE": "offline"}, "", True),
        ({}, [], {"WANDB_API_KEY": "x" * 40}, "", True),
        ({}, [], {}, "machine api.wandb.ai\n  login user\n  password x", True),
    ],
)
def test_who_never_asked_for_it_hears_nothing_of_it(
    options: dict[str, object],
    command: list[str],
    variables: dict[str, str],
    login: str,
    heard: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    (tmp_path / "netrc").write_text(login)
    for name, value in {**variables, "NETRC": str(tmp_path / "netrc"), "HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "provenance.json").write_text(json.dumps({"segments": [{"command": command}]}))
    started: list[object] = []
    monkeypatch.setattr(wandb, "start_follower", lambda *_, **__: started.append(0) or Busy())
    settings = WandB(**options)  # type: ignore[arg-type]
    settings(tmp_path, 0, 1).close({})
    assert ("is still being written" in capsys.readouterr().err) == heard
    assert bool(started) == heard, "who did not ask for it does not pay for a process"
    assert describe_mode(settings, tmp_path).startswith("off (not logged in") != heard


@pytest.mark.parametrize(
    ("options", "variables", "said"),
    [
        ({}, {}, "off (not logged in; tracker=[console,wandb] records offline)"),
        ({}, {"WANDB_MODE": "disabled"}, ""),
        ({"mode": "disabled"}, {"WANDB_API_KEY": "x" * 40}, ""),
        ({}, {"WANDB_API_KEY": "x" * 40}, "online, project paribus"),
        ({}, {"WANDB_API_KEY": "x" * 40, "WANDB_PROJECT": "mine"}, "online, project mine"),
        ({"project": "ours"}, {"WANDB_API_KEY": "x" * 40, "WANDB_PROJECT": "mine"}, "online, project ours"),
        ({"tags": ("a",)}, {}, "a local record; paribus wandb sync uploads it"),
        ({}, {"WANDB_API_KEY": "x" * 40, "WANDB_MODE": "offline"}, "a local record; paribus wandb sync uploads it"),
    ],
)
def test_what_the_panel_says_of_it(
    options: dict[str, object],
    variables: dict[str, str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name, value in {**variables, "NETRC": str(tmp_path / "netrc"), "HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    assert describe_mode(WandB(**options), tmp_path) == said  # type: ignore[arg-type]


def test_a_login_to_a_server_of_ones_own_is_a_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "netrc").write_text("machine wandb.lab.example login user password x")
    assert not has_login()
    (tmp_path / ".config" / "wandb").mkdir(parents=True)
    (tmp_path / ".config/wandb/settings").write_text("[default]\nbase_url = https://wandb.lab.example:8080\n")
    assert has_login()


def test_runs_are_found_alone_in_a_folder_and_in_its_folders(tmp_path: Path) -> None:
    for name in ("a/r1", "a/r2", "b/r3"):
        (tmp_path / name).mkdir(parents=True)
        for file in ("config.yaml", "events.jsonl"):
            (tmp_path / name / file).touch()
    assert runs_under(tmp_path / "a" / "r1") == [tmp_path / "a" / "r1"]
    assert [r.name for r in runs_under(tmp_path / "a")] == ["r1", "r2"]
    assert [r.name for r in runs_under(tmp_path)] == ["r1", "r2", "r3"]
    with pytest.raises(ConfigError, match="no run there"):
        runs_under(tmp_path / "c")


def _told(tmp_path: Path, **options: object) -> dict[str, object]:
    from paribus.tracking.wandb_session import _init_arguments
    from paribus.tracking.wandb_state import Follower

    run = tmp_path / "smoke-cutmix-s3-0123456789ab"
    (run / "wandb").mkdir(parents=True, exist_ok=True)
    config = {
        "name": "smoke",
        "seed": 3,
        "techniques": ["cutmix"],
        "tracker": {"wandb": {"_target_": "paribus.tracking.wandb.WandB", **options}},
    }
    (run / "config.yaml").write_text(json.dumps(config))
    return _init_arguments(Follower(run, None))


def test_what_w_and_b_is_told_of_a_run(tmp_path: Path) -> None:
    told = _told(tmp_path)
    config = told.pop("config")
    assert isinstance(config, dict)
    assert (config["recipe"], config["techniques"]) == ("0123456789ab", ["cutmix"])
    assert told == {
        "project": "paribus",
        "entity": None,
        "group": "smoke",
        "job_type": "cutmix",
        "name": "smoke-cutmix-s3",
        "notes": None,
        "tags": ["cutmix"],
    }


def test_a_setting_beats_a_variable_and_a_variable_beats_a_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = {
        "PROJECT": "project",
        "ENTITY": "entity",
        "RUN_GROUP": "group",
        "JOB_TYPE": "job_type",
        "NOTES": "notes",
    }
    for variable in (*variables, "NAME"):
        monkeypatch.setenv(f"WANDB_{variable}", "mine")
    monkeypatch.setenv("WANDB_TAGS", "x,cutmix")
    left = _told(tmp_path)
    assert [left[key] for key in (*variables.values(), "name")] == [None] * 6, "W&B reads its own variables"
    given = _told(tmp_path, **dict.fromkeys(variables.values(), "given"), tags=["y"])
    assert [given[key] for key in variables.values()] == ["given"] * 5
    assert given["tags"] == ["cutmix", "y", "x"]


def test_the_variable_names_a_new_run_and_leaves_a_known_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from paribus.tracking.wandb_state import Follower

    def open_run(name: str) -> str:
        (tmp_path / name / "wandb").mkdir(parents=True, exist_ok=True)
        (tmp_path / name / "config.yaml").write_text("tracker: {}")
        WandB()(tmp_path / name, 0, 1)
        return Follower(tmp_path / name, None).id

    monkeypatch.delenv("WANDB_MODE")
    known = open_run("a")
    assert re.fullmatch("[a-z0-9]{8}", known)
    monkeypatch.setenv("WANDB_RUN_ID", "mine-1")
    assert open_run("b") == open_run("b") == "mine-1"
    assert capsys.readouterr().err == ""
    assert open_run("a") == known
    assert capsys.readouterr().err == f"note: WANDB_RUN_ID=mine-1 is left out: W&B knows this run as {known} already\n"


def test_an_id_that_w_and_b_would_refuse_is_a_warning_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_RUN_ID", "a/b")
    assert isinstance(WandB()(tmp_path, 0, 1), NullTracker)
    assert "warning: W&B is left out: WANDB_RUN_ID is 'a/b'" in capsys.readouterr().err


def test_a_record_of_another_run_whose_id_ends_alike_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from paribus.tracking.wandb_state import Follower

    monkeypatch.setenv("WANDB_RUN_ID", "c")
    (tmp_path / "wandb").mkdir()
    (tmp_path / "config.yaml").write_text("tracker: {}")
    for name in ("run-20260101_000000-b-c", "offline-run-20260101_000000-c", "run-20260101_000000-c"):
        (tmp_path / "wandb" / name).mkdir()
    Follower(tmp_path, None).keep_only(tmp_path / "wandb" / "run-20260101_000000-c")
    assert {p.name for p in (tmp_path / "wandb").glob("*run-*")} == {"run-20260101_000000-b-c", "run-20260101_000000-c"}


def test_several_runs_at_once_do_not_share_the_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_RUN_ID", "mine")
    leave_out_wandb_id()
    leave_out_wandb_id()
    assert "WANDB_RUN_ID" not in os.environ
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_conftest_keeps_w_and_b_out_of_all_other_tests() -> None:
    assert os.environ["WANDB_MODE"] == "disabled"
