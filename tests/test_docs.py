"""The documentation keeps its word: links, examples, commands, generated pages."""

import hashlib
import importlib.util
import inspect
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import numpy as np
import pytest
import torch
import yaml
from typer.models import OptionInfo

from fakes import MemoryCase, small_task
from polysite import cli, recipe, registry, study
from polysite.config.base import Component
from polysite.config.consortium import Consortium
from polysite.config.hospital import Hospital
from polysite.config.run import Run
from polysite.config.site import Site
from polysite.engines.here import Here
from polysite.federation.server import federate
from polysite.federation.tensor_files import read_tensors
from polysite.run import plan
from polysite.tasks.task import Effort
from toy import CrewMaker

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXTS = [*PAGES, *sorted((ROOT / "recipes").rglob("*.yaml"))]
EXAMPLES = {
    "proximal": ("algorithms", "docs/how-to/add-an-algorithm.md", "Proximal"),
    "shallow": ("networks", "docs/how-to/add-a-network.md", "Shallow"),
}
"""Classes whose whole file stands in a page: registered name -> kind, page, class."""

BASE = """
name: base
contrasts: [T1w, T2w, PDw, FLAIR]
sites:
  north: {data: {format: bids, path: /data/north}, tasks: [T1w->T2w]}
  south: {data: {format: bids, path: /data/south}, tasks: [T1w->T2w]}
"""
"""What an example that is a part of a run is laid over."""


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(path: Path, language: str) -> Iterator[tuple[int, str]]:
    """Line number and content of the fenced blocks of one language."""
    for found in re.finditer(r"^```(\w*)\n(.*?)^```$", path.read_text(encoding="utf-8"), re.M | re.S):
        if found[1] == language:
            yield path.read_text(encoding="utf-8")[: found.start()].count("\n") + 1, found[2]


def load_module(name: str, source: str, path: str) -> ModuleType:
    module = ModuleType(name)
    exec(compile(source, path, "exec"), module.__dict__)
    return module


@pytest.fixture(scope="module")
def generate() -> Any:
    """``docs/reference/generate.py`` as a module."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/reference/generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def examples(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """Registers the classes whose files stand in pages."""
    modules = {}
    for name, (kind, page, attribute) in EXAMPLES.items():
        (source,) = [code for _, code in blocks(ROOT / page, "python") if code.startswith(f"# {name}.py")]
        modules[name] = load_module(f"docs_{name}", source, page)
        monkeypatch.setitem(sys.modules, f"docs_{name}", modules[name])
        monkeypatch.setitem(registry.TABLES[kind], name, f"docs_{name}:{attribute}")
    return modules


# --- pages --------------------------------------------------------------------------------------------


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as code hosts make them."""
    titles = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), f"{relative(page)} links {target}"
        assert not anchor or anchor in anchors(path), f"{relative(page)} links {target}"


def test_the_index_names_every_page() -> None:
    index = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    for page in sorted((ROOT / "docs").rglob("*.md")):
        name = str(page.relative_to(ROOT / "docs"))
        assert name == "README.md" or f"({name})" in index, f"docs/README.md does not name {name}"


@pytest.mark.parametrize("page", TEXTS, ids=relative)
def test_pages_name_files_that_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"(?<![\w/.])(?:recipes|benchmarks|tests)/[\w/.-]*\w", text):
        assert (ROOT / name).exists(), f"{relative(page)} names {name}"


# --- examples -----------------------------------------------------------------------------------------

YAML = [(page, line, text) for page in PAGES for line, text in blocks(page, "yaml")]


@pytest.mark.parametrize(
    ("page", "line", "text"), YAML, ids=[f"{relative(page)}:{line}" for page, line, _ in YAML]
)
def test_yaml_examples_are_valid(page: Path, line: int, text: str) -> None:
    """A whole run, a study, a part of a run or a part of a site: each builds."""
    raw = yaml.safe_load(text)
    base = yaml.safe_load(BASE)
    if {"name", "sites"} <= set(raw):
        recipe.build(raw)
    elif "hospitals" in raw:
        Consortium(**raw)
    elif "policy" in raw:
        Hospital(**raw)
    elif "methods" in raw:
        for differs in study.Study(**raw).methods.values():
            recipe.build(recipe.merge(base, differs))
    elif set(raw) <= set(Run.model_fields):
        recipe.build(recipe.merge(base, raw))
    else:
        assert set(raw) <= set(Site.model_fields), f"{relative(page)}:{line} is no part of a run or of a site"
        recipe.build({**base, "sites": {"north": {**base["sites"]["north"], **raw}}})


def test_the_study_in_the_tutorial_is_read_as_it_is_saved_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = ROOT / "docs/tutorials/first-federation.md"
    (text,) = [text for _, text in blocks(page, "yaml") if "methods:" in text]
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    Path("runs/first-study.yaml").write_text(text)
    _, runs = study.load(Path("runs/first-study.yaml"))
    assert {label for label, _ in runs} == {"local", "fedavg", "pflsynth"}
    assert all(run.training.rounds == 3 for run in runs.values())


# --- commands -----------------------------------------------------------------------------------------


def commands(page: Path) -> Iterator[str]:
    """Command lines ``polysite …`` in blocks, in inline code and in a recipe's comments."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".md":
        inline = re.findall(r"`(polysite [^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S))
        lines = [line for _, block in blocks(page, "") for line in block.splitlines()]
    else:
        inline, lines = [], [line.lstrip("# ") for line in text.splitlines() if line.startswith("#")]
        lines += re.findall(r"`(polysite [^`\n]+)`", text)
    yield from inline
    for line in lines:
        if line.startswith("polysite "):
            yield re.split(r" {3,}", line)[0]


def options_of(generate: Any, callback: Any) -> set[str]:
    parameters = inspect.signature(callback).parameters.values()
    infos = [(parameter.name, get_args(parameter.annotation)[1]) for parameter in parameters]
    return {generate.option_of(name, info) for name, info in infos if isinstance(info, OptionInfo)}


@pytest.mark.parametrize("page", TEXTS, ids=relative)
def test_commands_exist_with_their_options(page: Path, generate: Any) -> None:
    known = {
        command.name or command.callback.__name__: options_of(generate, command.callback)
        for command in cli.app.registered_commands
        if command.callback
    }
    for line in commands(page):
        verb, *words = shlex.split(line.replace("[", "").replace("]", ""))[1:]
        if verb.isupper():
            continue
        assert verb in known, f"{relative(page)}: {line}"
        used = {word for word in words if word.startswith("--")}
        assert used <= known[verb] | {"--help"}, f"{relative(page)}: {line}"


@pytest.mark.parametrize("page", TEXTS, ids=relative)
def test_commands_on_recipes_set_what_can_be_set(page: Path) -> None:
    for line in commands(page):
        words = shlex.split(line)
        path = next((Path(word) for word in words if word.startswith("recipes/")), None)
        if path is None:
            continue
        if "studies" in path.parts:
            study.load(ROOT / path)
        else:
            given = [words[k + 1] for k, word in enumerate(words) if word == "--set"]
            recipe.load(ROOT / path, given)


def test_options_are_those_that_typer_makes(generate: Any) -> None:
    """The generated page spells options as the terminal takes them."""
    from typer.main import get_command

    group: Any = get_command(cli.app)
    for command in cli.app.registered_commands:
        assert command.callback is not None
        made = group.commands[command.name or command.callback.__name__]
        spelled = {option for parameter in made.params for option in parameter.opts if option[0] == "-"}
        assert options_of(generate, command.callback) == spelled - {"--help"}


# --- generated pages ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "file",
    ["run-yaml.md", "command-line.md", *(f"datasets/{name}.md" for name in registry.TABLES["datasets"])],
)
def test_generated_pages_are_as_the_code(file: str, generate: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, (kind, _, _) in EXAMPLES.items():
        monkeypatch.delitem(registry.TABLES[kind], name)
    made = generate.PAGES[file]()
    assert (ROOT / "docs/reference" / file).read_text(encoding="utf-8") == made, (
        f"docs/reference/{file} is old: run `python docs/reference/generate.py`"
    )
    nothing = [line for line in made.splitlines() if file == "run-yaml.md" and line.endswith("|  |")]
    assert not nothing, "say what these keys mean, by a description in the code"


# --- the worked algorithm -----------------------------------------------------------------------------


def finished(crew: Any) -> dict[str, str]:
    federate(crew, Here(Here.Settings(threads=1), crew), lambda event: None)
    return {
        str(path.relative_to(crew.folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in crew.folder.rglob("model.safetensors")
    }


def test_the_worked_algorithm_without_pull_is_federated_averaging(toy_crew: CrewMaker) -> None:
    plain = toy_crew(2, folder="plain", task={"noisy": True})
    settings = {"name": "proximal", "private": ["head.*"], "mu": 0.0}
    proximal = toy_crew(2, folder="proximal", task={"noisy": True}, algorithm=settings)
    assert finished(plain) == finished(proximal)


def test_the_worked_algorithm_equals_its_formula(toy_crew: CrewMaker) -> None:
    """Two rounds in NumPy: gradient ``(w - c) + mu (w - w_server)``, momentum kept at the site."""
    mu = 0.7
    settings = {"name": "proximal", "private": ["head.*"], "mu": mu}
    crew = toy_crew(2, algorithm=settings, training={"rounds": 2})
    server = crew.sites["site0"].slot().initial["body.w"].double().numpy()
    finished(crew)
    speeds = [np.zeros(3), np.zeros(3)]
    for _ in range(2):
        sent = []
        for k, centre in enumerate([1.0, -2.0]):
            w = server
            for _ in range(crew.run.training.steps_per_round):
                speeds[k] = 0.5 * speeds[k] + (w - centre) + mu * (w - server)
                w = w - crew.run.training.learning_rate * speeds[k]
            sent.append(w)
        server = np.average(sent, axis=0, weights=[1, 2])
    made = read_tensors(crew.folder / "server" / "model.safetensors")["body.w"]
    np.testing.assert_allclose(made.numpy(), server, rtol=1e-5, atol=1e-6)


def test_an_entry_point_adds_a_name_and_replaces_none(
    monkeypatch: pytest.MonkeyPatch, examples: dict[str, ModuleType]
) -> None:
    from importlib.metadata import EntryPoint

    def points(group: str) -> list[EntryPoint]:
        value = "docs_proximal:Proximal"
        return [EntryPoint("pulled", value, group), EntryPoint("fedavg", value, group)]

    monkeypatch.setattr(registry, "entry_points", points)
    assert registry.lookup("algorithms", "pulled") is examples["proximal"].Proximal
    assert registry.lookup("algorithms", "fedavg") is not examples["proximal"].Proximal


# --- the worked network -------------------------------------------------------------------------------


def test_the_worked_network_is_planned_trained_and_applied() -> None:
    page = ROOT / "docs/how-to/add-a-network.md"
    (whole,) = [text for _, text in blocks(page, "yaml") if "sites:" in text]
    description = plan(recipe.build(yaml.safe_load(whole)))
    assert {name.split(".")[1] for name in description["shared"]["names"]} == {"second", "out"}

    task = small_task(network=Component(name="shallow", width=4))
    model = task.build("north", 3)
    data = task.data("north", [MemoryCase()])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    task.fit(model, data, Effort(2, 4, 1.0, 5), task.optimisers(model))
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert {"generator.first.weight", "generator.shift.weight", "generator.out.bias"} <= moved
    volume = task.predict(model, MemoryCase(), "T1w->T2w", "north")
    assert volume.shape == (6, 24, 24)
    assert np.abs(volume).max() <= 1
