"""What each doubt means and what to do about it, in two sentences."""

from __future__ import annotations

from collections.abc import Mapping

EXPLANATIONS: Mapping[str, str] = {
    "over_budget": (
        "The attack proposed images outside the ball that it was allowed, and the harness projected them back before "
        "judging, so the number holds for the stated budget but is not what the attack was made for. "
        "Let the attack project its own iterates, and look for a norm or a pixel scale that was mistaken."
    ),
    "outside_domain": (
        "The attack proposed pixels outside [0, 1], which no image has; they were cut off before judging. "
        "Let the attack clip its images, and look for a normalisation that was applied twice."
    ),
    "normalised_domain": (
        "The attack was handed images after normalisation and clamped them to [0, 1], which destroys them: what is "
        "measured is the damage of that cut and not an attack of the stated eps, and a model hardened on such images "
        "has learnt to read them instead of real ones. "
        "Leave `domain` at pixels, which puts the normalisation inside the model."
    ),
    "preprocessing": (
        "The model came with its weights and is poor on clean images, and looking at the same images in another way "
        "raises its accuracy by 10 points or more: most likely it was trained so, and every number of it is too low. "
        "Set what the reason names, and run it again."
    ),
    "unchanged": (
        "The attack handed back images equal to the clean ones, so these samples were never attacked and count as "
        "robust without having been tried. Read nothing into the number before the attack moves them: look at its step "
        "size, its gradients and its early stopping."
    ),
    "buffers_changed": (
        "The attack changed the model's buffers, batch-norm statistics most likely, which makes its own later batches "
        "face another model; they were restored. Keep the model in evaluation mode inside the attack."
    ),
    "weights_changed": (
        "The attack changed the weights of the model that it attacks; they were restored and the change reported. "
        "Work on a copy, or on gradients with respect to the image alone."
    ),
    "clean_below_adversarial": (
        "The model is right more often under attack than without it, which no working attack can bring about. "
        "Look for a broken attack, for other preprocessing of the clean images, or for labels that do not belong to "
        "the samples; do not publish the number."
    ),
    "weaker_than_": (
        "A simpler attack, which this one contains, fools more samples on the same weights and the same budget. "
        "The stronger attack is configured or implemented wrongly, or the gradient is masked: give it more steps, "
        "restarts or another step size, and report the lower of the two accuracies."
    ),
    "failed": (
        "The cell ended with an error and has no number; the other cells are not touched by it. "
        "Mend what the reason names and give the same command again: only what is missing is run."
    ),
    "zero_gradients": (
        "Many gradients of the loss with respect to the image are zero in every pixel, so an attack by gradients does "
        "not move there and the accuracy says little about robustness (masked gradients). "
        "Attack with a loss of logit differences, in higher precision, through a smooth stand-in, or by scores alone."
    ),
    "saturated_logits": (
        "The logits lie so far apart that the loss is exactly zero in float32 and its gradient vanishes, although the "
        "model need not be robust. Attack with a loss that the scale of the logits does not touch, such as the "
        "difference of logits ratio, or divide the logits first."
    ),
    "random_predictions": (
        "The model answers differently when it sees the same image twice, and the attack followed the gradient of a "
        "single draw. Average the gradient over several draws (expectation over transformation) and judge over "
        "several draws, too."
    ),
    "gradient_not_ascending": (
        "A small step along the gradient does not raise the loss, so the gradient is shattered or was replaced by "
        "something that is none. Attack by scores alone or through a differentiable stand-in (BPDA), and believe the "
        "lowest accuracy."
    ),
    "black_box_stronger": (
        "An attack that sees scores alone leaves less than one that sees gradients: either the latter is simply too "
        "weak (few steps, one restart), or gradients are masked. Report the lower accuracy, try more steps and "
        "restarts, another loss or the strongest ensemble at hand, and only then suspect the model and "
        "adapt the attack to it."
    ),
    "eps_not_falling": (
        "The accuracy rises although the budget grows, yet every perturbation of the smaller budget is allowed in the "
        "larger one. The attack is not converged or its step does not grow with the budget: use more steps and "
        "restarts."
    ),
    "eps_zero_not_clean": (
        "With a budget of zero the accuracy is not the clean one, although the images must be the same. "
        "Look for preprocessing, rounding or randomness in which the two ways through the model differ."
    ),
    "large_eps_not_chance": (
        "A budget large enough to turn any image into any other still leaves accuracy above chance, so the attack "
        "does not find what is certainly there. Treat every accuracy of this attack on this model as an upper bound, "
        "and look for masked gradients."
    ),
    "precision_gap": (
        "Computing in reduced precision changes the accuracy by more than 0.2 points, so part of the number is "
        "rounding. Run the cell in float32, or report that the number belongs to this precision."
    ),
    "predictions_differ": (
        "The attack's own passes and the judge's passes see different classes for the same images, so the attack may "
        "have stopped at images that do not fool the deployed model. "
        "Look for randomness, batch-dependent layers or reduced precision, and use the judge's number."
    ),
    "quantised_weaker": (
        "Rounded to 8 bits, as any image file is, the adversarial images lose some of their effect. "
        "For attacks that must survive saving, round inside the attack or report the accuracy of the rounded images."
    ),
    "few_samples": (
        "So few samples were attacked that the interval is wide and small differences between cells mean nothing. "
        "Attack more samples (--limit), or compare cells only by `bench compare`."
    ),
    "out_of_memory": (
        "The device ran out of memory and the batch was halved, which costs time and changes no number. "
        "Set a smaller batch_size for this device to save the failed tries."
    ),
    "skipped": (
        "The attack does not apply here, so there is nothing to measure and no number. "
        "Choose a norm that the attack supports, or leave the attack out of the matrix."
    ),
    "interrupted": (
        "The run was stopped before this cell was finished, so it has no number yet. "
        "Give the same command again: it goes on from where it stopped."
    ),
}
"""By code; a code that ends in an underscore stands for all that begin with it."""


def explanation(code: str) -> str | None:
    """The two sentences for a code of ``harness.types.Reason``; None for one that a plugin made up."""
    if code in EXPLANATIONS:
        return EXPLANATIONS[code]
    return next((text for start, text in EXPLANATIONS.items() if start.endswith("_") and code.startswith(start)), None)
