"""Runs steps in this process, one after another. A step that fails takes its cells with it and nothing else."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from harness import boundary, composition, data, preprocessing, training, validity
from harness.artifacts import Artifacts, Tensors, state_of
from harness.assault import Assault
from harness.building import build_module, check_head
from harness.captioning import features
from harness.captioning.data import CaptionData, CaptionSamples
from harness.captioning.data import on_device as captions_on_device
from harness.captioning.judging import CaptionTrial
from harness.captioning.judging import judge as judge_captions
from harness.captioning.lessons import CaptionLessons
from harness.captioning.saying import Decoding
from harness.divergence import Diverged
from harness.domain import Normalised, inner
from harness.errors import BenchError
from harness.estimate import Estimate
from harness.judging import Trial, at_budget, judge
from harness.keys import key_of
from harness.lessons import ClassLessons, Lessons, Objective, plain_objective
from harness.progress import Reporter, percent
from harness.randomness import SampleRandom, derive, seed_generators
from harness.recipe import Recipe
from harness.request import AttackConfig
from harness.settings import RunSettings
from harness.steps import CellStep, DataStep, FitStep, HardenStep, TrainingStep
from harness.store.records import CellRecord, CellState, ScoreRecord, StepRecord
from harness.store.store import Store
from harness.subject import Subject, examine
from harness.types import (
    CAPTIONING,
    CLASSIFICATION,
    Batch,
    Captioner,
    CaptionOutcome,
    Outcome,
    Reason,
    Status,
)
from harness.undisturbed import undisturbed
from harness.weights import transfer

TOLD = {"accuracy": "accuracy", "bleu4": "BLEU-4"}
"""The metrics that are told as a cell is finished."""


class StepFailed(Exception):
    """A step that a cell needs has failed; the message is the cell's reason."""


@dataclass
class Local:
    """The executor of this process. ``fresh``: nothing finished earlier is taken. ``unmeasured``: failed scores."""

    run_id: str
    store: Store
    artifacts: Artifacts
    reporter: Reporter
    estimate: Estimate
    device: torch.device
    settings: RunSettings
    metrics: Mapping[str, Any]
    probe: AttackConfig | None = None
    fresh: bool = False
    unmeasured: int = field(default=0, init=False)
    _data: dict[str, data.Data] = field(default_factory=dict)
    _caption_data: dict[str, CaptionData] = field(default_factory=dict)
    _failed: dict[str, str] = field(default_factory=dict)
    _made: set[str] = field(default_factory=set)
    _module: tuple[str, nn.Module] | None = None
    _subject: tuple[tuple[str, str], Subject] | None = None

    def run(self, cell: CellStep, state: CellState | None) -> Status:
        """Brings one cell to its end and stores it; what was stored before is completed, not repeated."""
        if cell.skip or cell.fault:
            return self._put_aside(cell, Status.SKIPPED if cell.skip else Status.FAILED, cell.skip or cell.fault)
        try:
            unverified = self.settings.verify and not (state and state.verified)
            if state and state.status is Status.OK and not self.fresh and not unverified:
                self._measure_again(cell, state)
            else:
                self._attack(cell)
        except Exception as error:
            return self._put_aside(cell, Status.FAILED, reason_of(error), traceback.format_exc())
        return Status.OK

    def interrupt(self, cells: Sequence[CellStep]) -> None:
        """Marks cells that a stopped run did not reach."""
        for cell in cells:
            self._put_aside(cell, Status.INTERRUPTED, "the run was interrupted before this cell was finished")

    def _attack(self, cell: CellStep) -> None:
        outcome = self._captioned(cell) if _captions(cell) else self._outcome(cell)
        if isinstance(outcome, CaptionOutcome):
            reasons = validity.of_captions(outcome, cell.threat)
        else:
            draws = min(part.eot for part in cell.attack.parts)
            reasons = validity.own(outcome, cell.threat, access=cell.attack.access, draws=draws)
            reasons += self._preprocessing(cell, float(outcome.correct.mean()))
        scores = self._scores(cell, outcome, cell.metrics)
        passes = float(outcome.forwards.sum() + outcome.backwards.sum()) / 2
        record = self._record(cell, Status.OK, n=cell.n, seconds=outcome.seconds, passes=passes)
        self.store.save_cell(record, outcome, scores, reasons, validity.siblings)
        told = next((s for s in scores if s.metric in TOLD and s.value is not None), None)
        text = f"{percent(told.value)} {TOLD[told.metric]}, n = {told.n}, " if told else ""
        doubts = f" [{', '.join(reason.code for reason in reasons)}]" if reasons else ""
        self.reporter.say(f"{cell.label}: {text}{outcome.seconds:.1f} s{doubts}")

    def _preprocessing(self, cell: CellStep, accuracy: float) -> list[Reason]:
        """Whether a model that was not trained here is poor on clean images for its preprocessing."""
        fit = cell.hardened.fit
        if cell.threat or cell.hardened.trains or fit.start or fit.model.recipe.epochs:
            return []
        loaded = self.load(fit.data)
        samples, figures = loaded.splits["test"].limited(cell.n), (loaded.mean, loaded.std)
        module = self.hardened_module(cell.hardened)
        return preprocessing.suspected(module, samples, figures, accuracy, self.settings.batch_size)

    def _outcome(self, cell: CellStep) -> Outcome:
        """What the judge says of a cell: from another budget's run where one search answers for all, else attacked."""
        if cell.attack.minimum_norm and cell.threat and not self.fresh:
            found = self.store.finished_in_family(cell.family)
            if found is not None:
                outcome = self.store.outcome(found)
                if outcome.facts.get("verified") or not self.settings.verify:
                    return at_budget(outcome, cell.threat)
        module = self.hardened_module(cell.hardened)
        samples = self.load(cell.hardened.fit.data).splits["test"].limited(cell.n)
        domain = self._domain(cell.hardened.fit.data)
        if domain and cell.threat:
            module, samples = domain.through(module), replace(samples, domain=domain)
        self.reporter.step(cell.label, self.estimate.step(cell))
        trial = Trial(
            module,
            [self.assault(cell, part) for part in cell.attack.parts],
            self.settings.batch_size,
            crafted_on=self._surrogate(cell, domain) if cell.surrogate else None,
            before=self._before(cell),
            verify=self.settings.verify,
            probe=self._probing(cell),
            subject=self._examined(cell, module, samples),
        )
        judged = judge(trial, samples, lambda share, right: self.reporter.advance(share, f"accuracy {percent(right)}"))
        if domain and (cell.threat or cell.hardened.trains):
            few = torch.arange(min(len(samples), 256), device=samples.labels.device)
            cut_off = domain.cut_off(replace(samples, domain=None).take(few).x)
            judged.facts |= {"domain": self.settings.domain, "cut_off": cut_off}
        return judged

    def _captioned(self, cell: CellStep) -> CaptionOutcome:
        """What the judge of captions says of a cell."""
        trial, samples = self.caption_trial(cell)
        self.reporter.step(cell.label, self.estimate.step(cell))
        corpus = self.captions(cell.hardened.fit.data).corpus
        judged = judge_captions(trial, samples.limited(cell.n), corpus, lambda share: self.reporter.advance(share, ""))
        judged.facts["verified"] = self.settings.verify  # there are no further checks of captions yet
        return judged

    def caption_trial(self, cell: CellStep) -> tuple[CaptionTrial, CaptionSamples]:
        """What the judge of captions is asked for in a cell, and all test images, in the captioner's own words."""
        run, module = self.settings, self.hardened_module(cell.hardened)
        decoding = Decoding(run.beam, run.longest, run.length_penalty)
        trial = CaptionTrial(module, self.assault(cell, cell.attack), decoding, run.batch_size, cell.attack.aim)
        return trial, in_own_words(self.captions(cell.hardened.fit.data).splits["test"], module)

    def _domain(self, step: DataStep) -> Normalised | None:
        """What attacks and hardening are fed with, where it is not pixels."""
        if self.settings.domain == "pixels":
            return None
        found = self.load(step)
        return Normalised(found.mean, found.std)

    def _surrogate(self, cell: CellStep, domain: Normalised | None) -> nn.Module:
        assert cell.surrogate is not None
        module = self._fitted_module(cell.surrogate)
        return domain.through(module) if domain and cell.threat else module

    def assault(self, cell: CellStep, part: AttackConfig) -> Assault:
        run = self.settings
        return Assault(
            part.component,
            part.name,
            cell.threat,
            derive(cell.seed, "attack", part.component_name),
            draws=part.eot,
            final_iterate=run.final_iterate,
            query_budget=run.query_budget,
            precision=run.precision,
        )

    def _probing(self, cell: CellStep) -> Assault | None:
        """The attack of the checks that cost passes, where it supports the cell's norm."""
        if self.probe is None or cell.threat is None:
            return None
        if self.probe.fault:
            raise BenchError(self.probe.fault)
        return self.assault(cell, self.probe) if cell.threat.norm in self.probe.norms else None

    def _before(self, cell: CellStep) -> Outcome | None:
        """The outcome at the next smaller eps. Raises BenchError where there is none: the key says that it counts."""
        if cell.before is None:
            return None
        try:
            return self.store.outcome(cell.before.key)
        except ValueError as error:
            assert cell.before.threat is not None
            raise BenchError(
                f"eps {cell.before.threat.eps:.4g} of the same curve comes first and has no result ({error}); mend "
                "that cell or leave its eps out"
            ) from error

    def _examined(self, cell: CellStep, module: nn.Module, samples: data.Samples) -> Subject:
        step, fed = cell.hardened, "pixels" if samples.domain is None else self.settings.domain
        if self._subject is None or self._subject[0] != (step.key, fed):
            with undisturbed(module):
                seed_generators(derive(step.seed, "examine"))
                self._subject = ((step.key, fed), examine(module, samples))
        return self._subject[1]

    def _measure_again(self, cell: CellStep, state: CellState) -> None:
        """Takes the metrics that a finished cell does not have yet, from its stored outcomes."""
        missing = [name for name, key in cell.metrics.items() if state.metrics.get(name) != key]
        outcome: Outcome | CaptionOutcome
        if _captions(cell):
            data = self.captions(cell.hardened.fit.data)
            outcome = self.store.captions(cell.key, data.references, data.corpus)
        else:
            outcome = self.store.outcome(cell.key)
        scores = self._scores(cell, outcome, missing)
        self.store.save_scores(cell.key, scores)
        measured = [score.metric for score in scores if not score.reason]
        if measured:
            self.reporter.say(f"{cell.label}: measured {', '.join(measured)}")

    def _scores(self, cell: CellStep, outcome: Outcome | CaptionOutcome, names: Iterable[str]) -> list[ScoreRecord]:
        """What metrics say of a cell. One that fails costs its own score: the samples are there for the next try."""
        found = []
        for name in names:
            try:
                score = self._score(name, cell, outcome)
            except Exception as error:
                score = ScoreRecord(name, cell.metrics[name], None, None, None, 0, "", reason=reason_of(error))
                self.unmeasured += 1
                self.reporter.say(f"{cell.label}: {name} failed: {score.reason}")
            found.append(score)
        return found

    def _score(self, name: str, cell: CellStep, outcome: Outcome | CaptionOutcome) -> ScoreRecord:
        metric = self.metrics[name]
        if metric.fault:
            raise BenchError(metric.fault)
        facts = cell.hardened.fit.data.facts
        assert facts is not None
        if getattr(metric.component, "task", CLASSIFICATION) not in ("", facts.task):
            return ScoreRecord(name, cell.metrics[name], None, None, None, 0, getattr(metric.component, "unit", ""))
        score = boundary.bind("metrics", metric.component).measure(outcome=outcome, facts=facts)
        unit = getattr(metric.component, "unit", "")
        value, low, high, n = score or (None, None, None, 0)
        return ScoreRecord(name, cell.metrics[name], value, low, high, n, unit)

    def _put_aside(self, cell: CellStep, status: Status, reason: str, trace: str = "") -> Status:
        self.store.save_cell(self._record(cell, status, reason=reason, trace=trace), None, (), (), None)
        if status is not Status.INTERRUPTED:
            self.reporter.say(f"{cell.label}: {status}: {reason}")
        return status

    def _record(self, cell: CellStep, status: Status, *, trace: str = "", **facts: Any) -> CellRecord:
        threat = cell.threat
        document = {**cell.document, "traceback": trace} if trace else cell.document
        return CellRecord(
            key=cell.key,
            run_id=self.run_id,
            status=status,
            device=self.device.type,
            subject=cell.subject,
            attack=cell.attack.component_name,
            norm=threat.norm if threat else None,
            eps=threat.eps if threat else None,
            # An attack that may not spend what it needs does not claim to beat others.
            stronger_than=() if cell.attack.fault or self.settings.query_budget else cell.attack.stronger_than,
            family=cell.family,
            access="" if cell.attack.fault or threat is None else cell.attack.access,
            document=document,
            **facts,
        )

    def hardened_module(self, step: HardenStep) -> nn.Module:
        """The defended model with its weights, in evaluation mode; the last one is kept for the next cell."""
        if self._module and self._module[0] == step.key:
            return self._module[1]
        fitted = self._fit(step.fit) if not step.trains else {}
        tensors = self._once(step, partial(self._harden, step)) if step.trains else fitted
        module = self._build(step.fit)
        module.load_state_dict(tensors)
        hooks = boundary.bind("defenses", step.defense.component)
        if hooks.offers("wrap"):
            module = hooks.wrap(module=module).to(self.device)
        self._module = (step.key, module.eval())
        return module

    def _fitted_module(self, step: FitStep) -> nn.Module:
        """An undefended model with its weights, in evaluation mode, to make images on."""
        tensors = self._fit(step)
        module = self._build(step)
        module.load_state_dict(tensors)
        return module.eval()

    def _fit(self, step: FitStep) -> Tensors:
        return self._once(step, partial(self._train_fit, step))

    def _train_fit(self, step: FitStep) -> tuple[Tensors, list[dict[str, float]]]:
        module = self._build(step)
        if step.start:
            classes = len(self.load(step.data).facts.classes)
            transfer(module, self._fit(step.start), classes, f"start {step.start.model.name}")
        check_head(step, module)
        if hasattr(module, "memorise"):
            return self._memorised(step, module), []
        return self._train(step, module, step.model.recipe, plain_objective)

    def _harden(self, step: HardenStep) -> tuple[Tensors, list[dict[str, float]]]:
        module = self._build(step.fit)
        module.load_state_dict(self._fit(step.fit))
        hooks = boundary.bind("defenses", step.defense.component)
        domain = self._domain(step.data)

        def objective(problem: Any, batch: Batch, random: SampleRandom) -> Tensor:
            if domain:
                batch = batch._replace(x=domain.enter(batch.x))
            losses: Tensor = hooks.objective(problem=problem, batch=batch, random=random)
            return losses

        if domain is None:
            return self._train(step, module, step.recipe, objective)
        tensors, history = self._train(step, domain.through(module), step.recipe, objective)
        return inner(tensors), history

    def _train(
        self, step: TrainingStep, module: nn.Module, recipe: Recipe, objective: Objective
    ) -> tuple[Tensors, list[dict[str, float]]]:
        checkpoint = self.artifacts.checkpoint(step.key)
        if self.fresh:
            checkpoint.unlink(missing_ok=True)
        self.reporter.step(step.label, self.estimate.step(step))

        def on_batch(epoch: int, done: int, of: int, loss: float) -> None:
            share = (epoch + done / of) / recipe.epochs
            self.reporter.advance(share, f"epoch {epoch + 1}/{recipe.epochs} loss {loss:.3f}")

        def on_epoch(epoch: training.Epoch) -> None:
            bleu = "" if epoch.validation_bleu4 is None else f"BLEU-4 {percent(epoch.validation_bleu4)} "
            self.reporter.say(
                f"{step.label}: epoch {epoch.epoch}/{recipe.epochs} loss {epoch.loss:.3f} accuracy "
                f"{percent(epoch.accuracy)} validation {percent(epoch.validation_accuracy)} {bleu}"
                f"({epoch.images_per_second:.0f} {'captions' if bleu else 'images'}/s)"
            )

        seed = derive(step.seed, step.kind)
        lessons: Lessons
        if step.data.facts and step.data.facts.task == CAPTIONING:
            lessons = self._caption_lessons(step, module, recipe, seed)
        else:
            splits = self.load(step.data).splits
            validation = splits["validation"].limited(recipe.validation_samples)
            lessons = ClassLessons(splits["train"], validation, objective, seed, self.settings.batch_size)
        return training.train(
            training.Training(
                module,
                recipe,
                lessons,
                seed,
                checkpoint,
                on_batch,
                on_epoch,
            )
        )

    def _memorised(self, step: FitStep, module: nn.Module) -> Tensors:
        """The weights of a captioner that repeats what it has seen."""
        self.reporter.step(step.label, self.estimate.step(step))
        samples = in_own_words(self.captions(step.data).splits["train"], module)
        module.memorise(samples.whole(self.settings.batch_size))  # type: ignore[operator]
        return state_of(module)

    def _caption_lessons(self, step: TrainingStep, module: nn.Module, recipe: Recipe, seed: int) -> CaptionLessons:
        """Captions to learn; what a frozen encoder makes of their images is kept and used instead of them."""
        splits = {name: in_own_words(samples, module) for name, samples in self.captions(step.data).splits.items()}
        if cast("Captioner", module).frozen:
            for name in ("train", "validation"):
                splits[name] = self._with_features(step, module, splits[name], name)
        validation = splits["validation"].limited(recipe.validation_samples)
        return CaptionLessons(splits["train"], validation, seed, self.settings.batch_size, self.settings.longest)

    def _with_features(
        self, step: TrainingStep, module: nn.Module, samples: CaptionSamples, split: str
    ) -> CaptionSamples:
        label = f"features of {step.data.config.name}, {split}"
        self.reporter.step(label, 0.0)

        def read(rows: Any) -> Tensor:
            return samples.pixels(torch.from_numpy(rows))

        captioner = cast("Captioner", module)
        key = key_of({"data": step.data.key, "split": split, "encoder": features.digest(captioner.encoder)})
        with undisturbed(module):
            kept = features.kept(
                self.artifacts,
                key,
                captioner.encode,
                read,
                len(samples),
                self.settings.batch_size,
                lambda share: self.reporter.advance(share, label),
            )
        return replace(samples, features=kept)

    def _once(self, step: TrainingStep, make: Any) -> Tensors:
        """The weights of a step: from the artifacts where it is finished, else made now and kept."""
        if step.key in self._failed:
            raise StepFailed(self._failed[step.key])
        try:
            with self.artifacts.alone(step.key):
                found = None if self.fresh and step.key not in self._made else self.artifacts.load(step.kind, step.key)
                return found[0] if found else self._make(step, make)
        except Exception as error:
            reason = reason_of(error) if isinstance(error, StepFailed) else f"{step.label} failed: {reason_of(error)}"
            self._failed[step.key] = reason
            history = error.history if isinstance(error, Diverged) else ()
            self._save_step(step, Status.FAILED, reason=reason, history=history)
            raise StepFailed(reason) from error

    def _make(self, step: TrainingStep, make: Any) -> Tensors:
        if step.before:
            self._fit(step.before)  # first, so that its seconds are not counted twice
        began = time.perf_counter()
        tensors, history = make()
        seconds = time.perf_counter() - began
        record = {"kind": step.kind, "key": step.key, "document": step.document, "history": history}
        self.artifacts.save(step.kind, step.key, tensors, record)
        self.artifacts.checkpoint(step.key).unlink(missing_ok=True)
        self._made.add(step.key)
        self._save_step(step, Status.OK, seconds=seconds, history=history)
        return tensors

    def _save_step(self, step: TrainingStep, status: Status, **facts: Any) -> None:
        device, document = self.device.type, step.document
        label = f"{self.estimate.profile}/{step.model.name}"
        self.store.save_step(
            StepRecord(
                step.key, step.kind, label, status, self.run_id, device, passes=step.passes, document=document, **facts
            )
        )

    def _build(self, step: FitStep) -> nn.Module:
        if step.data.facts and step.data.facts.task == CAPTIONING:
            captions = self.captions(step.data)
            return build_module(step, captions.mean, captions.std, captions.vocabulary).to(self.device)
        loaded = self.load(step.data)
        return build_module(step, loaded.mean, loaded.std).to(self.device)

    def load(self, step: DataStep) -> data.Data:
        """A data set of classes, in memory."""
        if step.key not in self._data:
            self._data[step.key] = self._read(step, data.on_device)
        return self._data[step.key]

    def captions(self, step: DataStep) -> CaptionData:
        """A data set of captions."""
        if step.key not in self._caption_data:
            self._caption_data[step.key] = self._read(step, captions_on_device)
        return self._caption_data[step.key]

    def _read(self, step: DataStep, on_device: Any) -> Any:
        self.reporter.step(f"load {step.config.name}", 0.0)
        hooks = boundary.bind("datasets", step.config.component)
        assert step.facts is not None
        splits, name = hooks.load(files=step.files), step.config.name
        settle = partial(composition.settled, self.artifacts, step.key, name, fresh=self.fresh)
        return on_device(step.facts, splits, self.device, name, settle)


def _captions(cell: CellStep) -> bool:
    facts = cell.hardened.fit.data.facts
    return facts is not None and facts.task == CAPTIONING


def in_own_words(samples: CaptionSamples, module: nn.Module) -> CaptionSamples:
    """Under the numbers of the captioner's own vocabulary, where it brings one."""
    own = getattr(module, "vocabulary", None)
    return samples if own is None else replace(samples, vocabulary=own)


def reason_of(error: BaseException) -> str:
    """One line that tells what went wrong; the kind of error too, unless it is one written for users."""
    text = " ".join(str(error).split()) or "no message"
    return text if isinstance(error, BenchError | StepFailed) else f"{type(error).__name__}: {text}"
