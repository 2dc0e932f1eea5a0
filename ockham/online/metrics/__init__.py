"""What is measured beside the facts: stability, plasticity, forgetting, and metrics of the user's own."""

from .custom import CustomMetrics as CustomMetrics
from .forgetting import Forgetting as Forgetting
from .plasticity import Plasticity as Plasticity
from .stability import Stability as Stability
from .tracker import MetricsTracker as MetricsTracker
from .tracker import Probe as Probe
