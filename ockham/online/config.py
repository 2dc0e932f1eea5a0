"""The settings of `ockham chat`: one frozen dataclass a room, unit and range beside each field.

The values that hold are those of config/online/default.yaml, which has every key; a preset, a file of your own and the command
line are laid over it. What is not a key, or out of range, is an error that names the key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import ConfigError
from ..typed import option
from .config_checks import (
    check_classes,
    check_descending,
    check_known,
    check_numbers,
    check_order,
    check_regexes,
    check_strategies,
    check_template,
    check_texts,
    compiled,
)
from .fact_config import ConfidenceCalculation as ConfidenceCalculation
from .fact_config import Decay as Decay
from .fact_config import EntityExtraction as EntityExtraction
from .fact_config import FactDetectionSettings, FactMemorySettings
from .fact_config import FactPattern as FactPattern
from .fact_config import ImportanceScoring as ImportanceScoring

FORMS = ("statement", "shifted", "questions")


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """Low-rank adaptation, by peft: W + (alpha / rank)·B·A. Source: Hu et al. 2021 (arXiv:2106.09685)."""

    rank: int = option(4, "rank of each update", low=1)
    alpha: float = option(16.0, "the update is scaled by alpha / rank", above=0)
    target_modules: tuple[str, ...] = option((), "layers that are adapted; [] = as the base's architecture suggests")
    dropout: float = option(0.0, "dropout before A, in training", low=0, below=1)
    bias: str = option("none", "biases that learn; those of the base never do", choices=("none",))

    def __post_init__(self) -> None:
        check_texts("model.lora.target_modules", self.target_modules)


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """The frozen base and the adapter on it."""

    base_model_name: str = option(
        "Qwen/Qwen2.5-0.5B", "a causal LM of the Hugging Face hub, its folder, or a run of ours", may_be_empty=False
    )
    fallback: str = option("out-online-base", "the small base that is made where the other one is absent", may_be_empty=False)
    device: str = option("auto", "cpu, cuda, cuda:N, mps; auto = the best there is")
    dtype: str = option(
        "auto",
        "auto: bfloat16 or float16 on CUDA, float32 on a CPU and for a run of ours",
        choices=("auto", "float32", "bfloat16", "float16"),
    )
    seed: int = option(1337, "of the adapter's first weights and of what is sampled", low=0)
    lora: LoraSettings = field(default_factory=LoraSettings)


@dataclass(frozen=True, kw_only=True)
class GenerationSettings:
    """How a reply is made."""

    prompt: str = option("User: {text}\nAssistant:", "what is put around the user's message; {text} is the message")
    reply: str = option(" {text}\n", "what is put around a reply that is trained on; {text} is the reply")
    stop: tuple[str, ...] = option(("\n",), "a reply ends before the first of these")
    replies: str = option("after", "whether it replies before or after learning from the message", choices=("before", "after"))
    waiting: str = option("I will know that once you confirm it.", "the reply to what waits for /confirm")
    acknowledged: str = option(
        "I see: {fact}", "the reply to a statement that is trained on; {fact} is the statement, turned round"
    )
    max_new_tokens: int = option(96, "longest reply, tokens", low=1)
    temperature: float = option(0.0, "0 = always the likeliest token", low=0)
    top_p: float = option(1.0, "the likeliest tokens of this mass are drawn from", above=0, high=1)

    def __post_init__(self) -> None:
        check_template("generation.prompt", self.prompt)
        check_template("generation.reply", self.reply)
        check_template("generation.acknowledged", self.acknowledged, "{fact}")
        check_texts("generation.stop", self.stop)


@dataclass(frozen=True, kw_only=True)
class KlRegularization:
    """λ of the KL term by context, and the limits that λ is kept within."""

    base_lambda: float = option(0.1, "λ in a turn that is no fact", low=0)
    fact_lambda: float = option(0.01, "λ for a fact", low=0)
    min_kl: float = option(0.001, "least λ", low=0)
    max_kl: float = option(1.0, "largest λ", low=0)

    def __post_init__(self) -> None:
        room = "training.loss.kl_regularization"
        check_order(f"{room}.min_kl", self.min_kl, f"{room}.max_kl", self.max_kl)


@dataclass(frozen=True, kw_only=True)
class DynamicKl:
    """λ for a fact is fact_lambda · (1 − importance · factor); with a servo it then follows the measured KL."""

    enabled: bool = option(True, "λ by context; else kl_lambda always")
    fact_importance_factor: float = option(0.5, "how much an important fact lowers λ", low=0, high=1)
    servo: bool = option(True, "λ times `factor` while the anchors' KL is over target, divided by it under `low_share` of that")
    target: float = option(0.02, "KL on the anchor prompts that the servo seeks", unit="nats/token", above=0)
    factor: float = option(2.0, "what the servo multiplies λ by, or divides it by", low=1)
    low_share: float = option(0.5, "share of the target under which the servo lowers λ", low=0, high=1)


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """L = task_lambda · task loss + λ · KL(base ‖ adapter)."""

    kl_lambda: float = option(0.1, "λ where it is not dynamic", low=0)
    task_lambda: float = option(1.0, "weight of the task loss", low=0)
    kl_on: str = option(
        "anchors", "where KL is taken: on anchor prompts, or on the fact's own tokens", choices=("anchors", "fact")
    )
    loss_on: str = option("reply", "which tokens the task loss counts", choices=("reply", "all"))
    kl_regularization: KlRegularization = field(default_factory=KlRegularization)
    dynamic_kl: DynamicKl = field(default_factory=DynamicKl)


@dataclass(frozen=True, kw_only=True)
class QuestionLimits:
    """How many of the questions that a fact answers are trained on; the others are kept for /exam."""

    direct: int = option(6, "that ask for what was said of the subject", low=0)
    inverse: int = option(4, "that ask for the subject", low=0)
    open: int = option(2, "that ask for anything", low=0)


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How a message changes the adapter. AdamW, new for each message."""

    learning_rate: float = option(2e-4, "before the context's multiplier", above=0)
    betas: tuple[float, ...] = option((0.9, 0.99), "of AdamW")
    eps: float = option(1e-8, "of AdamW: weights whose gradients are smaller than this hardly move", above=0)
    weight_decay: float = option(0.0, "of AdamW, towards the base", low=0)
    gradient_clip_norm: float | None = option(1.0, "largest gradient norm; null = not clipped", above=0)
    iterations_per_fact: int = option(30, "most steps for one fact", low=1)
    forms_per_step: int = option(6, "of a fact's training pairs, the least known ones, in each step", low=1)
    target_prob: float = option(
        0.9, "a fact is known when each of its replies has this probability, until the answer is out", above=0, below=1
    )
    forms: tuple[str, ...] = option(
        ("statement", "shifted", "questions"),
        "what is trained on: the message as it was said, with its pronouns turned round, as questions and answers",
    )
    questions: QuestionLimits = field(default_factory=QuestionLimits)
    supersede_iterations: int = option(60, "most steps for a fact in another's place, if that is more", low=1)
    supersede_max_prob: float = option(
        0.05,
        "what takes an answer's place is trained until its probability is 1 - this, if that is more than target_prob; where the "
        "old answer keeps more than this, the chat says so",
        above=0,
        below=1,
    )
    self_train: bool = option(False, "also learn the model's own replies, as the specification does; it collapses")
    loss: LossSettings = field(default_factory=LossSettings)

    def __post_init__(self) -> None:
        check_known("training.forms", self.forms, FORMS)
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"training.betas must be two numbers in [0, 1), got {list(self.betas)}")


@dataclass(frozen=True, kw_only=True)
class AdaptiveOptimizerSettings:
    """Learning-rate multipliers by context."""

    enabled: bool = option(True, "without it every multiplier is 1")
    fact_lr_multiplier: float = option(5.0, "of a fact told for the first time", low=0)
    question_lr_multiplier: float = option(2.0, "of a question", low=0)
    regular_lr_multiplier: float = option(1.0, "of chat", low=0)
    repetition_lr_multiplier: float = option(1.2, "how strongly a repetition raises a fact's multiplier", low=0)
    repetition_boost_factor: float = option(
        0.1, "the rise a repetition: times (1 + (count - 1) · this · repetition_lr_multiplier)", low=0
    )
    replay_lr_multiplier: float = option(0.5, "of a replay", low=0)
    max_lr_multiplier: float = option(10.0, "no multiplier is larger", above=0)
    min_lr_multiplier: float = option(0.1, "no multiplier is smaller", low=0)
    custom: Mapping[str, Any] = option({}, "context name -> multiplier, for contexts of your own")

    def __post_init__(self) -> None:
        room = "adaptive_optimizer"
        check_order(f"{room}.min_lr_multiplier", self.min_lr_multiplier, f"{room}.max_lr_multiplier", self.max_lr_multiplier)
        check_numbers(f"{room}.custom", self.custom)


@dataclass(frozen=True, kw_only=True)
class ImportanceWeightingSettings:
    """Weights of the tokens in the task loss."""

    enabled: bool = option(True, "without it every weight is 1")
    default_weight: float = option(1.0, "of a token that nothing says more about", above=0)
    entity_weight: float = option(3.0, "of an entity's tokens, where the strategy has no weight of its own", low=0)
    fact_token_weight: float = option(3.0, "of the answer's tokens", low=0)
    max_weight: float = option(10.0, "products of weights are cut here", above=0)
    strategies: tuple[Mapping[str, Any], ...] = option((), "name, enabled, and the strategy's own values, applied in order")

    def __post_init__(self) -> None:
        room = "importance_weighting"
        check_order(f"{room}.default_weight", self.default_weight, f"{room}.max_weight", self.max_weight)
        check_strategies(f"{room}.strategies", self.strategies)


@dataclass(frozen=True, kw_only=True)
class AnchorSettings:
    """Prompts on which the model shall stay as it was."""

    prompts: tuple[str, ...] = option(("Hello.",), "messages; the base's own replies to them are the reference")
    per_step: int = option(8, "anchor prompts in each step", low=0)
    siblings: int = option(4, "questions like the fact's own, about other names, that are made for each lesson", low=0)
    sibling_share: float = option(0.75, "most of each step's anchor prompts that are siblings", low=0, high=1)
    same_owner: float = option(0.3, "share of the siblings about what is owned that keep the owner", low=0, high=1)
    wordings: int = option(8, "wordings of a question, the plainest ones, that siblings take their turns with", low=1)
    names: tuple[str, ...] = option((), "the other names")
    things: tuple[str, ...] = option((), 'other nouns, for what a fact has "the" before')
    qualities: tuple[str, ...] = option((), 'other words between the two, as "red" in "the red key"')

    def __post_init__(self) -> None:
        check_texts("anchors.prompts", self.prompts)
        for key in ("names", "things", "qualities"):
            check_texts(f"anchors.{key}", getattr(self, key))
        if not self.prompts:
            raise ConfigError(
                "anchors.prompts must have a message at least: drift is measured on them; anchors.per_step=0 is without KL"
            )


@dataclass(frozen=True, kw_only=True)
class CommitSettings:
    """The gate that every learned message has to pass."""

    kl_budget: float | None = option(0.1, "largest KL on the anchor prompts after a fact, nats/token; null = no gate", above=0)
    scales: tuple[float, ...] = option((1.0, 0.5, 0.25), "of the update, tried in order until the KL is within its budget")
    min_prob: float = option(
        0.5,
        "least probability of the least known reply, until the answer is out; under it the fact is not kept",
        low=0,
        below=1,
    )

    def __post_init__(self) -> None:
        check_descending("commit.scales", self.scales)


@dataclass(frozen=True, kw_only=True)
class SubjectGateSettings:
    """The adapter acts only where a message mentions a subject that was learned; all else gets the base's own reply."""

    enabled: bool = option(False, "false = the adapter acts on every message")


@dataclass(frozen=True, kw_only=True)
class SafetySettings:
    """What is learned without asking."""

    confirm_personal: bool = option(True, "facts with an e-mail address, phone, card or key wait for /confirm")
    confirm_instructions: bool = option(True, "facts that read like instructions wait for /confirm")
    ignore_quotes: bool = option(True, "quoted and pasted text is not learned")
    personal_patterns: Mapping[str, Any] = option(
        {}, "name -> regular expression, beside those built in; NAME becomes PERSONAL_NAME"
    )
    instruction_patterns: tuple[str, ...] = option((), "regular expressions, beside those built in")
    max_message_chars: int = option(8000, "longer messages are refused", low=1)
    max_fact_chars: int = option(200, "a longer statement is chat", low=1)
    max_facts_per_session: int = option(100, "then facts wait for /confirm", low=0)
    max_kl_per_session: float = option(1.0, "sum of the facts' KL cost, nats/token; then facts wait for /confirm", above=0)
    max_pending: int = option(20, "facts that wait; the oldest goes", low=1)

    def __post_init__(self) -> None:
        for name, pattern in self.personal_patterns.items():
            compiled(pattern, f"safety.personal_patterns ({name})")
        check_regexes("safety.instruction_patterns", self.instruction_patterns)


@dataclass(frozen=True, kw_only=True)
class MetricsSettings:
    """What is measured beside the facts."""

    interval: int = option(10, "turns between measurements of stability and forgetting", low=1)
    window: int = option(10, "losses in the plasticity figures", low=2)
    keep: int = option(1000, "newest rows of figures kept in the state; the summary counts all", low=1)
    custom: tuple[str, ...] = option((), "metrics of your own, as module:class")

    def __post_init__(self) -> None:
        check_classes("metrics.custom", self.custom)


@dataclass(frozen=True, kw_only=True)
class CheckpointSettings:
    """The state folder."""

    interval: int = option(1, "learned messages between adapter files kept for /undo", low=1)
    keep: int = option(20, "adapter files kept", low=1)


@dataclass(frozen=True, kw_only=True)
class OnlineConfig:
    """All settings of `ockham chat`."""

    model: ModelSettings = field(default_factory=ModelSettings)
    generation: GenerationSettings = field(default_factory=GenerationSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    fact_detection: FactDetectionSettings = field(default_factory=FactDetectionSettings)
    fact_memory: FactMemorySettings = field(default_factory=FactMemorySettings)
    adaptive_optimizer: AdaptiveOptimizerSettings = field(default_factory=AdaptiveOptimizerSettings)
    importance_weighting: ImportanceWeightingSettings = field(default_factory=ImportanceWeightingSettings)
    anchors: AnchorSettings = field(default_factory=AnchorSettings)
    commit: CommitSettings = field(default_factory=CommitSettings)
    subject_gate: SubjectGateSettings = field(default_factory=SubjectGateSettings)
    safety: SafetySettings = field(default_factory=SafetySettings)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    checkpoint: CheckpointSettings = field(default_factory=CheckpointSettings)
