"""Plan what training takes, and meter what it took. Loads no torch: shapes and timed steps come in as Protocols."""

from guiju.compute.calibration import Calibration, Step, calibrate
from guiju.compute.carbon import GRIDS, Grid, find_grid
from guiju.compute.describe import describe_comparison, describe_plan
from guiju.compute.devices import DEVICES, Device, find_device
from guiju.compute.energy import WATTS_PER_CORE
from guiju.compute.flops import Attention, Flops, forward_flops, training_flops
from guiju.compute.memory import Memory, training_memory
from guiju.compute.meter import Meter, Reading
from guiju.compute.plan import Actual, Comparison, Plan, forecast_against_actual, plan_from_counts, plan_training
from guiju.compute.shape import Parameters, Shape, parameters

__all__ = [
    "DEVICES",
    "GRIDS",
    "WATTS_PER_CORE",
    "Actual",
    "Attention",
    "Calibration",
    "Comparison",
    "Device",
    "Flops",
    "Grid",
    "Memory",
    "Meter",
    "Parameters",
    "Plan",
    "Reading",
    "Shape",
    "Step",
    "calibrate",
    "describe_comparison",
    "describe_plan",
    "find_device",
    "find_grid",
    "forecast_against_actual",
    "forward_flops",
    "parameters",
    "plan_from_counts",
    "plan_training",
    "training_flops",
    "training_memory",
]
