from __future__ import annotations

import csv
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from .support import DIAMONDS, components, copied, features_of, measured, one_sentence, python

PROJECT = "price-suggestion"
features = features_of(PROJECT)
ITEM = {"carat": 0.7, "cut": "Ideal", "color": "F", "clarity": "VS1", "depth": 61.5, "table": 56, "x": 5.7, "y": 5.72,
        "z": 3.51}  # fmt: skip
HEADER = '"","carat","cut","color","clarity","depth","table","price","x","y","z"\n'


@pytest.fixture(scope="module")
def diamonds() -> list[dict[str, str]]:
    with DIAMONDS.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def code(tmp_path: Path) -> Path:
    return copied(PROJECT, tmp_path / "code")


def trial(code: Path, data: Path = DIAMONDS, segment: str = "Premium", *more: str) -> Any:
    return python(code, "train.py", f"--data={data}", f"--segment={segment}", "--learning-rate=0.2",
                  "--max-leaf-nodes=15", *more)  # fmt: skip


def test_the_price_is_no_feature() -> None:
    assert features.vector({**ITEM, "price": "1"}) == features.vector({**ITEM, "price": "99999"})
    assert len(features.vector(ITEM)) == len(ITEM)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cut": "Superb"}, "cut must be one of Fair, Good, Very Good, Premium, Ideal"),
        ({"color": None}, "color must be one of"),
        ({"clarity": ["IF"]}, "clarity must be one of"),
        ({"carat": "heavy"}, "carat must be a number"),
        ({"carat": None}, "carat must be a number"),
        ({"x": True}, "x must be a number"),
        ({"y": float("nan")}, "y must be a number"),
        ({"z": 10**400}, "z must be a number"),
        ({"depth": {}}, "depth must be a number"),
    ],
)
def test_what_is_no_diamond_is_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        features.vector({**ITEM, **change})
    with pytest.raises(ValueError, match="must be an object"):
        features.vector([1])


def test_no_stone_is_on_two_sides_of_the_split(diamonds: list[dict[str, str]]) -> None:
    where: dict[Any, set[str]] = {}
    sizes: Counter[str] = Counter()
    for row in diamonds:
        split = features.split_of(features.vector(row))
        sizes[split] += 1
        turned = features.vector({**row, "x": row["y"], "y": row["x"], "cut": "Fair", "table": "50", "depth": "60"})
        assert features.split_of(turned) == split
        where.setdefault((row["carat"], row["color"], row["clarity"], row["x"], row["y"], row["z"]), set()).add(split)
    assert all(len(splits) == 1 for splits in where.values())
    assert {name: round(count / len(diamonds), 2) for name, count in sizes.items()} == {
        "train": 0.7, "validation": 0.15, "test": 0.15,
    }  # fmt: skip


def test_loading_gives_each_row_once_and_always_the_same() -> None:
    parts = {split: features.load(DIAMONDS, "Fair", (split,)) for split in ("train", "validation", "test")}
    assert sum(len(prices) for _, prices in parts.values()) == len(features.load(DIAMONDS, "Fair", tuple(parts))[1])
    assert features.load(DIAMONDS, "Fair", ("test",)) == parts["test"]
    both = features.load(DIAMONDS, "Fair", ("train", "validation"))[0]
    assert not {features.stone(v) for v in both} & {features.stone(v) for v in parts["test"][0]}


@pytest.mark.parametrize("segment", ["all", "Premium", "Fair"])
def test_a_trial_beats_the_baseline_and_is_the_same_each_time(code: Path, segment: str) -> None:
    first, second = trial(code, segment=segment), trial(code, segment=segment)
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    error, baseline = measured(first.stdout.splitlines()[-1])
    assert error < 0.6 * baseline


def test_a_trial_never_looks_at_the_test_split(code: Path, tmp_path: Path, diamonds: list[dict[str, str]]) -> None:
    """Prices of test stones are changed beyond sense: nothing that tuning says may change."""
    spoilt = tmp_path / "spoilt.csv"
    with spoilt.open("w", newline="") as file:
        writer = csv.DictWriter(file, diamonds[0])
        writer.writeheader()
        for row in diamonds:
            held_out = features.split_of(features.vector(row)) == "test"
            writer.writerow({**row, "price": "1000000"} if held_out else row)
    assert trial(code, spoilt, "Fair").stdout == trial(code, segment="Fair").stdout


def test_the_pipeline_measures_on_the_test_split_and_packages_what_it_measured(tmp_path: Path) -> None:
    args = {"data": str(DIAMONDS), "segment": "Fair"}
    ran = components(
        PROJECT, tmp_path,
        ("train", {**args, "learning_rate": 0.1, "max_leaf_nodes": 31, "trained": "@trained"}),
        ("evaluate", {**args, "trained": "@trained", "metrics": "@metrics",
                      "mlfleet_outputs": "@outputs"}),
        ("package", {"segment": "Fair", "trained": "@trained", "measured": "@outputs", "model": "@model"}),
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    outputs = json.loads((tmp_path / "outputs").read_text())
    assert 0 < outputs["mae"] < 0.6 * outputs["baseline_mae"]
    assert outputs["rows_test"] == len(features.load(DIAMONDS, "Fair", ("test",))[1])
    assert outputs["rows_train"] == len(features.load(DIAMONDS, "Fair", ("train", "validation"))[1])
    assert json.loads((tmp_path / "model" / "model.json").read_text()) == {"segment": "Fair", **outputs}
    assert (tmp_path / "model" / "model.joblib").read_bytes() == (tmp_path / "trained").read_bytes()


@pytest.mark.parametrize(
    ("content", "segment", "words"),
    [
        (None, "all", "cannot be read from .*no-such.csv: .*No such file"),
        ("", "all", "has no column carat"),
        (HEADER, "all", "no diamonds of segment 'all'"),
        (HEADER, "Superb", "there is no segment 'Superb'; segments are all, Fair"),
        (HEADER + '"1",0.23,"Superb","E","SI2",61.5,55,326,3.95,3.98,2.43\n', "all", r"csv:2: cut must be one of"),
        (HEADER + '"1",0.23,"Ideal","E","SI2"\n', "all", r"csv:2: depth must be a number"),
    ],
)
def test_bad_data_is_one_sentence(code: Path, tmp_path: Path, content: str | None, segment: str, words: str) -> None:
    path = tmp_path / "no-such.csv"
    if content is not None:
        path.write_text(content)
    assert re.search(words, one_sentence(trial(code, path, segment)))
