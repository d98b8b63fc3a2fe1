"""Log odds of a class, from logits."""

import torch


def target_log_odds(logits: torch.Tensor, target: int) -> torch.Tensor:
    """Log p/(1-p) of the target (M,) from logits (M,classes), without the saturation of probabilities."""
    logits = logits.double()
    others = torch.cat([logits[:, :target], logits[:, target + 1 :]], dim=1)
    return logits[:, target] - torch.logsumexp(others, dim=1)
