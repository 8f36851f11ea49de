"""Many members of an own model on own data, in one call: every member's accuracies, their means and intervals.

    results = run_members(config, data, num_members=8)
    print(results)                                                 a table of means and 95 % intervals
    results.difference("student_aux", "cross_model_aux")           paired, since members are shared

This is the library's front door. `experiments.mnist_aux` does the same with a record, a progress bar and resuming.
"""

import dataclasses
import functools

import jax
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from sublim_jax import conditions, errors, specs
from sublim_jax.metrics import intervals
from sublim_jax.training import effects, ensemble, stages
from sublim_jax.training.config import MemberConfig
from sublim_jax.training.state import Data


@specs.checked
@dataclasses.dataclass(frozen=True)
class MemberResults:
    """What all members leave behind, by condition; see `MemberResult`. Arrays have the members first.

    `reference` and `teacher` are conditions too. The value of a member that diverged is not a number.
    """

    members: Int[np.ndarray, "member"]
    accuracy: dict[str, Float[np.ndarray, "member"]]
    loss: dict[str, Float[np.ndarray, "member epoch"]]
    metrics: dict[str, dict[str, Float[np.ndarray, "member ..."]]]

    @property
    def conditions(self) -> tuple[str, ...]:
        """Names of the conditions, in the order of the table."""
        return tuple(self.accuracy)

    def num_diverged(self, *conditions: str) -> int:
        """Members of which one of these conditions diverged. Intervals leave them out."""
        return int(np.sum(~np.all([np.isfinite(self._values(name)) for name in conditions], axis=0)))

    def interval(self, condition: str, *, confidence: float = 0.95) -> intervals.Interval:
        """Mean test accuracy with its t-interval over members, without those that diverged.

        Raises:
            InputError: an unknown condition, or all members diverged.
        """
        values = self._values(condition)
        return intervals.t_interval(values[np.isfinite(values)], confidence=confidence)

    def difference(self, first: str, second: str, *, confidence: float = 0.95) -> intervals.Interval:
        """Mean of first minus second, paired by member, with its t-interval, without members that diverged.

        Raises:
            InputError: an unknown condition, or no member has both.
        """
        pair = self._values(first), self._values(second)
        both = np.isfinite(pair[0]) & np.isfinite(pair[1])
        return intervals.paired_difference(pair[0][both], pair[1][both], confidence=confidence)

    def __str__(self) -> str:
        """A table: one line for each condition."""
        width = max(map(len, self.conditions))
        lines = [f"{'condition':{width}}  test accuracy, n = {len(self.members)}"]
        for name in self.conditions:
            diverged = self.num_diverged(name)
            shown = "all diverged" if diverged == len(self.members) else f"{self.interval(name):.3f}"
            lines.append(f"{name:{width}}  {shown}" + (f" ({diverged} diverged)" if diverged > 0 else ""))
        return "\n".join(lines)

    def _values(self, condition: str) -> np.ndarray:
        if condition not in self.accuracy:
            raise errors.InputError(f"condition {condition!r}: expected one of {', '.join(self.conditions)}")
        return self.accuracy[condition]


def run_members(
    config: MemberConfig,
    data: Data,
    *,
    num_members: int = 8,
    seed: int = 0,
    members_at_once: int | None = None,
) -> MemberResults:
    """Train a reference, a teacher and the students of every condition for each of many members.

    Member n depends on the seed and on n alone, so more members leave the first ones as they are. Everything is one
    compiled program for each shape; configs that differ in numbers share it. On a CPU, call `ensemble.use_cpu_cores`
    before anything else touches JAX, so that each core trains a member of its own.

    Args:
        data: arrays, of the host or of JAX.
        num_members: at least 2, or 1 where no condition needs another member's initialization.
        members_at_once: members side by side in one `vmap` on each device; by default 1 on a CPU, up to 128 elsewhere.

    Raises:
        InputError: data or noise that do not fit the config's model, a number out of bounds, or students that cannot
            learn because their loss has no gradient.
    """
    specs.check(config, MemberConfig, "config")
    specs.check(num_members, specs.NumMembers, "num_members")
    specs.check(seed, specs.Seed, "seed")
    specs.check(members_at_once, specs.Count | None, "members_at_once")
    if num_members == 1 and {conditions.start_of(condition) for condition in config.conditions} != {"student"}:
        raise errors.InputError(
            "num_members=1: cross_model and matched students start from another member's reference. Use num_members >= "
            "2, or only conditions that begin with student_"
        )
    effects.require_gradient(config)
    stages.require_fitting(data, config.teacher_config)
    width = members_at_once or ensemble.default_members_per_device(num_members)
    chunk_size = width * jax.device_count()
    partners = ensemble.cross_model_partners(num_members) if num_members > 1 else np.zeros(1, np.int32)
    leaves, structure = jax.tree.flatten(config)
    program = _program(structure, width)
    shared = ensemble.replicate((np.uint32(seed), [np.asarray(leaf) for leaf in leaves], data))
    outcomes = []
    for start in range(0, num_members, chunk_size):
        # The last chunk is filled up with its first member, so that all chunks have one shape.
        chosen = np.arange(start, start + chunk_size, dtype=np.int32)
        chosen = np.where(chosen < num_members, chosen, start)
        outcomes.append(ensemble.gather(program(ensemble.shard((chosen, partners[chosen])), shared)))
    outcome = jax.tree.map(lambda *parts: np.concatenate(parts)[:num_members], *outcomes)
    names = conditions.recorded_conditions(config.conditions)
    return MemberResults(
        np.arange(num_members), {name: outcome.accuracy[name] for name in names}, outcome.loss, outcome.metrics
    )


@functools.lru_cache(maxsize=64)
def _program(structure: PyTree, width: int):
    """All members of a chunk in one compiled program, for all configs of one structure."""

    def run_one(member: Int[Array, ""], partner: Int[Array, ""], shared):
        seed, leaves, data = shared
        return stages.run(member, partner, data, seed=seed, spec=jax.tree.unflatten(structure, leaves))

    return ensemble.over_members(run_one, width=width)
