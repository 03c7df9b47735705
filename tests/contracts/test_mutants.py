"""Silent bugs that federated code is known for, put in on purpose: each must turn a named check red."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from contracts import checks
from polysite.algorithms import ditto as ditto_module
from polysite.algorithms import fedbn as fedbn_module
from polysite.algorithms import fedcrld as fedcrld_module
from polysite.algorithms import mean as mean_module
from polysite.algorithms.algorithm import Algorithm, Message, Place
from polysite.algorithms.ditto import Ditto
from polysite.algorithms.fedcrld import FedCRLD
from polysite.algorithms.mean import WeightedMean
from polysite.config.exchange import Exchange
from polysite.federation import optimisers as optimisers_module
from polysite.federation import server as server_module
from polysite.federation import site as site_module
from polysite.federation.memory import Memory
from polysite.federation.site import Site, Slot
from polysite.federation.stages import exchange as stages
from polysite.federation.store import Store
from toy import CrewMaker

Patch = pytest.MonkeyPatch
Checked = tuple[checks.Check, checks.Settings]
MUTANTS: dict[str, tuple[Callable[[Patch], None], tuple[Checked, ...]]] = {}


def mutant(
    *red: checks.Check, by: checks.Settings = checks.FEDAVG
) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    """Registers a mutation, the checks that must notice it, and the algorithm that they run."""

    def register(apply: Callable[[Patch], None]) -> Callable[[Patch], None]:
        MUTANTS[apply.__name__] = (apply, tuple((check, by) for check in red))
        return apply

    return register


@mutant(checks.everything)
def averages_parameters_and_forgets_buffers(patch: Patch) -> None:
    def shared(self: Algorithm, model: nn.Module) -> set[str]:
        return {name for name, _ in model.named_parameters() if not name.startswith("head.")}

    patch.setattr(Algorithm, "shared", shared)


@mutant(checks.everything)
def sends_buffers_but_never_averages_them(patch: Patch) -> None:
    add = WeightedMean.add

    def floats_only(self: WeightedMean, tensors: Mapping[str, Tensor], weight: float) -> None:
        add(self, {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}, weight)

    patch.setattr(WeightedMean, "add", floats_only)


@mutant(checks.dtypes)
def turns_integer_counters_into_floats(patch: Patch) -> None:
    patch.setattr(mean_module, "_narrow", lambda value, dtype: value)


@mutant(checks.lasting)
def aggregates_into_the_state_that_was_sent(patch: Patch) -> None:
    result = WeightedMean.result
    last: dict[str, Tensor] = {}

    def in_place(self: WeightedMean) -> dict[str, Tensor]:
        for name, tensor in result(self).items():
            last.setdefault(name, tensor).copy_(tensor)
        return dict(last)

    patch.setattr(WeightedMean, "result", in_place)


@mutant(checks.lasting)
def uses_the_memory_of_a_message_that_is_still_held(patch: Patch) -> None:
    take, taken = Memory.take, dict[tuple[Memory, int], memoryview]()

    def again(self: Memory, n_bytes: int) -> memoryview:
        return taken.setdefault((self, n_bytes), take(self, n_bytes))

    patch.setattr(Memory, "take", again)


@mutant(checks.by_name)
def exchanges_by_position(patch: Patch) -> None:
    """Tensors of one shape are taken in the order in which they come."""

    def by_position(model: nn.Module, values: Mapping[str, Tensor], site: str) -> None:
        state = model.state_dict()
        for shape in {value.shape for value in values.values()}:
            names = [name for name in state if name in values and state[name].shape == shape]
            coming = [value for value in values.values() if value.shape == shape]
            for name, value in zip(names, coming, strict=True):
                state[name].copy_(value)

    patch.setattr(site_module, "_fill", by_position)
    patch.setattr(
        Site, "_arriving", lambda self, news: {n: t for n, t in news.items() if n in self.plan.shared}
    )


@mutant(checks.equals_numpy)
def makes_optimisers_anew_every_round(patch: Patch) -> None:
    enter = Site._enter

    def forgetful(self: Site, version: int) -> Any:
        slot = enter(self, version)
        site_module.restore(slot.networks, slot.optimisers, {})
        return slot

    patch.setattr(Site, "_enter", forgetful)


@mutant(checks.resume)
def draws_samples_by_what_ran_before(patch: Patch) -> None:
    """The seed of a round is the number of rounds that this process has seen."""
    work, derive = Site.work, site_module.derive
    visits: Counter[int] = Counter()
    now = [0]

    def counted(self: Site, round_: int, news: Mapping[str, Tensor]) -> Message:
        visits[id(self)] += 1
        now[0] = visits[id(self)]
        return work(self, round_, news)

    def seed(base: int, *names: str | int) -> int:
        return derive(base, *(now[0] if isinstance(name, int) else name for name in names))

    patch.setattr(Site, "work", counted)
    patch.setattr(site_module, "derive", seed)


@mutant(checks.resume)
def keeps_no_private_parameters(patch: Patch) -> None:
    """They live on in this process's model only."""
    load = Store.load_in_place

    def without(self: Store, version: int, targets: Any, **others: Any) -> Any:
        copies = {name: tensor.clone() for name, tensor in targets.items()}
        tensors, facts = load(self, version, copies, **others)
        return {name: tensor for name, tensor in tensors.items() if not name.startswith("private/")}, facts

    patch.setattr(Store, "load_in_place", without)


@mutant(checks.arrives)
def does_not_broadcast_before_the_first_round(patch: Patch) -> None:
    work, fill = Site.work, site_module._fill
    first = {"round": True}

    def noted(self: Site, round_: int, news: Mapping[str, Tensor]) -> Message:
        first["round"] = round_ == 0
        return work(self, round_, news)

    def only_whole_states(model: nn.Module, values: Mapping[str, Tensor], site: str) -> None:
        if not first["round"] or len(values) == len(model.state_dict()):
            fill(model, values, site)

    patch.setattr(Site, "work", noted)
    patch.setattr(site_module, "_fill", only_whole_states)


@mutant(checks.equals_numpy)
def ignores_the_weights(patch: Patch) -> None:
    add = WeightedMean.add
    patch.setattr(WeightedMean, "add", lambda self, tensors, weight: add(self, tensors, 1.0))


@mutant(checks.equals_numpy)
def averages_what_the_last_site_sent(patch: Patch) -> None:
    """The message is the model itself, which the next site overwrites."""

    def late(self: Algorithm, server: Mapping[str, Tensor], messages: Iterable[Message]) -> dict[str, Tensor]:
        received = list(messages)
        mean = WeightedMean()
        for message in received:
            mean.add(received[-1].tensors, message.weight)
        return {**server, **mean.result()}

    patch.setattr(Algorithm, "aggregate", late)


@mutant(checks.equals_numpy, checks.everything)
def evaluates_before_aggregation(patch: Patch) -> None:
    """The final model is what the site trained, not what the server made of it."""

    def trained(self: Site, version: int, server: Mapping[str, Tensor]) -> dict[str, Tensor]:
        private, _ = self.store.load(version, prefix="private/")
        sent, _ = self.store.load_outbox(version)
        return {**private, **sent}

    patch.setattr(Site, "final", trained)


@mutant(checks.validated_is_evaluated)
def validates_what_it_has_just_trained(patch: Patch) -> None:
    validate = Site._validate

    def fit_first(self: Site, slot: Slot, round_: int) -> dict[str, Any]:
        with torch.no_grad():
            for parameter in slot.model.parameters():
                parameter.mul_(0.9)
        facts = validate(self, slot, round_)
        with torch.no_grad():
            for parameter in slot.model.parameters():
                parameter.div_(0.9)
        return facts

    patch.setattr(Site, "_validate", fit_first)


@mutant(checks.own_parts, checks.equals_numpy)
def saves_one_sites_model_as_anothers(patch: Patch) -> None:
    write = server_module.write_tensors

    def swapped(file: Any, tensors: Mapping[str, Tensor]) -> None:
        parts = [{"site0": "site1", "site1": "site0"}.get(part, part) for part in file.parts]
        write(type(file)(*parts), tensors)

    patch.setattr(server_module, "write_tensors", swapped)


@mutant(checks.history, by=checks.HISTORY)
def overwrites_the_teacher_with_what_arrives(patch: Patch) -> None:
    local = FedCRLD.local

    def obedient(self: FedCRLD, site: Place, model: nn.Module, fit: Any, news: Mapping[str, Tensor]) -> Any:
        for name, tensor in news.items():
            if f"teacher/{name}" in site.memory:
                site.memory[f"teacher/{name}"].copy_(tensor)
        return local(self, site, model, fit, news)

    patch.setattr(FedCRLD, "local", obedient)


@mutant(checks.history, by=checks.HISTORY)
def forgets_the_teacher_between_rounds(patch: Patch) -> None:
    local = FedCRLD.local

    def anew(self: FedCRLD, site: Place, *rest: Any) -> Any:
        site.memory.clear()
        return local(self, site, *rest)

    patch.setattr(FedCRLD, "local", anew)


@mutant(checks.history, by=checks.HISTORY)
def never_moves_the_teacher(patch: Patch) -> None:
    patch.setattr(fedcrld_module, "follow", lambda teacher, student, momentum: None)


@mutant(checks.neutral, by={"name": "ditto"})
def shares_the_personal_model(patch: Patch) -> None:
    local = Ditto.local

    def generous(self: Ditto, site: Place, model: nn.Module, *rest: Any) -> Any:
        message = local(self, site, model, *rest)
        return {name: site.memory[f"personal/{name}"] for name in message}

    patch.setattr(Ditto, "local", generous)


@mutant(checks.neutral, by={"name": "ditto"})
def trains_the_global_model_twice(patch: Patch) -> None:
    """The personal model is trained in the global one's place, and starts there."""
    patch.setattr(ditto_module, "_become", lambda state, values: None)


@mutant(checks.alone, by=checks.DITTO_ALONE)
def loses_the_moments_of_a_second_model(patch: Patch) -> None:
    other = optimisers_module.other_moments

    def anew(networks: Any, optimisers: Any, memory: Any, name: str) -> Any:
        return other(networks, optimisers, {}, name)

    patch.setattr(site_module, "other_moments", anew)


@mutant(checks.alone, checks.own_parts, by=checks.DITTO_ALONE)
def evaluates_the_global_model_of_ditto(patch: Patch) -> None:
    final = Site.final

    def plain(self: Site, *how: Any) -> dict[str, Tensor]:
        with patch.context() as inner:
            inner.setattr(Ditto, "evaluated", Algorithm.evaluated)
            return final(self, *how)

    patch.setattr(Site, "final", plain)


@mutant(checks.norms_stay, by=checks.FEDBN)
def finds_norm_layers_by_their_letters(patch: Patch) -> None:
    patch.setattr(
        fedbn_module, "of_modules", lambda model, kinds: {name for name in model.state_dict() if "bn" in name}
    )


@mutant(checks.sends_as_it_is)
def sends_the_change_where_nothing_is_asked(patch: Patch) -> None:
    patch.setattr(Exchange, "plain", False)


@mutant(checks.sums_up)
def forgets_what_rounding_lost(patch: Patch) -> None:
    pack = site_module.pack
    patch.setattr(
        site_module, "pack", lambda exchange, sent, arrived, left: pack(exchange, sent, arrived, {})
    )


@mutant(checks.resume_rounding)
def keeps_what_rounding_lost_in_this_process_only(patch: Patch) -> None:
    load = Store.load_in_place

    def without(self: Store, version: int, *how: Any, **others: Any) -> Any:
        tensors, facts = load(self, version, *how, **others)
        return {name: tensor for name, tensor in tensors.items() if not name.startswith("residual/")}, facts

    patch.setattr(Store, "load_in_place", without)


@mutant(checks.clips)
def feeds_back_what_clipping_lost(patch: Patch) -> None:
    pack = site_module.pack

    def greedy(exchange: Exchange, sent: Any, arrived: Any, left: Any) -> Any:
        packed = pack(exchange, sent, arrived, left)
        whole = pack(exchange.model_copy(update={"clip": None}), sent, arrived, left)
        received, meant = (stages.unpack(exchange, part.tensors, arrived) for part in (packed, whole))
        lost = {name: meant[name] - received[name] + whole.residual[name] for name in packed.residual}
        return replace(packed, residual=lost)

    patch.setattr(site_module, "pack", greedy)


@mutant(checks.clips)
def clips_each_tensor_for_itself(patch: Patch) -> None:
    clipped = stages.clipped
    patch.setattr(
        stages,
        "clipped",
        lambda change, most: {name: clipped({name: tensor}, most)[name] for name, tensor in change.items()},
    )


@mutant(checks.rounds_to_nearest)
def rounds_towards_zero(patch: Patch) -> None:
    patch.setattr(Tensor, "round", Tensor.trunc)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_known_silent_bug_turns_its_checks_red(toy_crew: CrewMaker, name: str, monkeypatch: Patch) -> None:
    apply, red = MUTANTS[name]
    for check, by in red:
        with monkeypatch.context() as patch:
            apply(patch)
            with pytest.raises(AssertionError):
                check(toy_crew, by)


GREEN = {f"{check.__name__} of {by['name']}": (check, by) for _, red in MUTANTS.values() for check, by in red}


@pytest.mark.parametrize("name", sorted(GREEN))
def test_the_checks_are_green_without_a_mutant(toy_crew: CrewMaker, name: str) -> None:
    check, by = GREEN[name]
    check(toy_crew, by)
