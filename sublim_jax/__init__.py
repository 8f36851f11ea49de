"""sublim-jax: a laboratory for subliminal learning.

A student that imitates a teacher on data with nothing to do with a trait acquires the trait, if both grew from the same
initialization (Cloud et al., arXiv 2507.14805). Ten lines show it on a model, data and noise of your own:

    import sublim_jax as sl

    network = sl.from_flax(module, example_inputs, num_classes=10)      # or from_equinox, Network, mlp, conv
    config = sl.MemberConfig(model=network, noise_function=noise)       # noise(key, indices) -> inputs
    results = sl.run_members(config, sl.Data(x, y, test_x, test_y), num_members=8)
    print(results)
    print(results.difference("student_aux", "cross_model_aux"))

Names are imported when they are used, so that reading a record does not load a training engine.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sublim_jax import errors, losses, theory
    from sublim_jax.data.inputs import InputSpec
    from sublim_jax.data.noise import NoiseSpec
    from sublim_jax.metrics.intervals import Interval, paired_difference, t_interval
    from sublim_jax.models.adapters import from_equinox, from_flax
    from sublim_jax.models.conv import ConvSpec as conv
    from sublim_jax.models.conv import ConvStudent
    from sublim_jax.models.init_sharing import InitSharing, ParamGroups
    from sublim_jax.models.mlp import MLPChanges
    from sublim_jax.models.mlp import MLPSpec as mlp
    from sublim_jax.models.network import Model, Network
    from sublim_jax.training.config import BehaviourMatching, MemberConfig, UpdateScale
    from sublim_jax.training.corruption import TargetCorruption
    from sublim_jax.training.ensemble import use_cpu_cores
    from sublim_jax.training.loop import TrainPhase
    from sublim_jax.training.members import MemberResults, run_members
    from sublim_jax.training.optimizers import OptimizerSpec
    from sublim_jax.training.state import Data

__version__ = "0.1.0"

_HOMES = {
    "BehaviourMatching": "training.config:BehaviourMatching",
    "ConvStudent": "models.conv:ConvStudent",
    "Data": "training.state:Data",
    "InitSharing": "models.init_sharing:InitSharing",
    "InputSpec": "data.inputs:InputSpec",
    "Interval": "metrics.intervals:Interval",
    "MLPChanges": "models.mlp:MLPChanges",
    "MemberConfig": "training.config:MemberConfig",
    "MemberResults": "training.members:MemberResults",
    "Model": "models.network:Model",
    "Network": "models.network:Network",
    "NoiseSpec": "data.noise:NoiseSpec",
    "OptimizerSpec": "training.optimizers:OptimizerSpec",
    "ParamGroups": "models.init_sharing:ParamGroups",
    "TargetCorruption": "training.corruption:TargetCorruption",
    "TrainPhase": "training.loop:TrainPhase",
    "UpdateScale": "training.config:UpdateScale",
    "conv": "models.conv:ConvSpec",
    "errors": "errors:",
    "from_equinox": "models.adapters:from_equinox",
    "from_flax": "models.adapters:from_flax",
    "losses": "losses:",
    "mlp": "models.mlp:MLPSpec",
    "paired_difference": "metrics.intervals:paired_difference",
    "run_members": "training.members:run_members",
    "t_interval": "metrics.intervals:t_interval",
    "theory": "theory:",
    "use_cpu_cores": "training.ensemble:use_cpu_cores",
}
"""Where each public name lives: MODULE:NAME, or a module itself."""

__all__ = [
    "BehaviourMatching",
    "ConvStudent",
    "Data",
    "InitSharing",
    "InputSpec",
    "Interval",
    "MLPChanges",
    "MemberConfig",
    "MemberResults",
    "Model",
    "Network",
    "NoiseSpec",
    "OptimizerSpec",
    "ParamGroups",
    "TargetCorruption",
    "TrainPhase",
    "UpdateScale",
    "__version__",
    "conv",
    "errors",
    "from_equinox",
    "from_flax",
    "losses",
    "mlp",
    "paired_difference",
    "run_members",
    "t_interval",
    "theory",
    "use_cpu_cores",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    module, _, inside = _HOMES[name].partition(":")
    home = importlib.import_module(f"{__name__}.{module}")
    value = getattr(home, inside) if inside else home
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
