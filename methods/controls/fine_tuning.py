"""fine-tuning: the whole encoder, trained on with its labels; the control for every method that trains."""

from __future__ import annotations

from harness import Card, Method, Paper, options


class FineTuning(Method):
    """Fine-tunes the baseline for a recipe's budget and changes nothing else. What a method loses against it, the
    method loses; what both lose against the baseline, longer training does.
    """

    card = Card(
        id="fine-tuning",
        title="Fine-tuned on (control)",
        family="controls",
        paper=Paper(
            title="BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding",
            authors="Devlin, Chang, Lee, Toutanova",
            year=2019,
            venue="NAACL",
            link="https://aclanthology.org/N19-1423/",
        ),
        scope="task-specific",
        fidelity="variant",
        deviations="The paper fine-tunes once; this fine-tunes a fine-tuned encoder again, with a new warm-up.",
        touches=("embedding", "attention_in", "attention_out", "ffn", "head"),
        reduces=(),
        notes="This is a control, not a proposal: it makes nothing smaller or faster.",
    )

    @options
    class Options:
        """None: the budget says how long it trains."""
