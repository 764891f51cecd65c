"""The unified prompt, the one text that all stages are trained with and that trained models are evaluated with.

The published models learned it at the end of the user turn and were scored with it as system message; both placements
are decided here and nowhere else.
"""

from typing import Literal, get_args

UNIFIED_PROMPT = (
    "You FIRST think about the reasoning process as an internal monologue and then provide the final answer. "
    "The reasoning process MUST BE enclosed within <think> </think> tags. "
    "The final answer MUST BE put in \\boxed{}. "
    "i.e. <think> reasoning here </think> \\boxed{final answer here}"
)

Placement = Literal["user", "system", "none"]
PLACEMENTS: tuple[Placement, ...] = get_args(Placement)
TRAINING: Placement = "user"
EVALUATION: Placement = "system"


def user_turn(problem: str, placement: Placement) -> str:
    """The text of the user turn, trimmed as the published template trims it."""
    return f"{problem.strip()} {UNIFIED_PROMPT}" if placement == "user" else problem


def system_message(placement: Placement) -> str | None:
    return UNIFIED_PROMPT if placement == "system" else None


def chat_messages(problem: str, placement: Placement) -> list[dict[str, str]]:
    """The conversation that asks `problem`, in the form that chat templates and OpenAI-compatible servers take."""
    system = system_message(placement)
    start = [{"role": "system", "content": system}] if system else []
    return [*start, {"role": "user", "content": user_turn(problem, placement)}]


def easyr1_template() -> str:
    """The training placement as the Jinja template that EasyR1's `data.format_prompt` names."""
    return user_turn("{{ content | trim }}", TRAINING)
