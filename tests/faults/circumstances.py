"""Faults in what was compiled, in the data, in the worker and in time, one function each: its name says what goes
wrong, its docstring how that shows in the field."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from harness import matrix, store
from harness.backends import registry
from harness.baselines import Baselines, Deviation
from harness.case import Precision
from harness.export import export
from harness.judge import accuracy, numerics, policy, repeat, sampled, stats, worked
from harness.judge import throughput as judging
from harness.reference import eager, predictions
from harness.run import case_answers, case_run, case_speed, context, engine, predict, prepared, throughput, windows
from harness.worker.limits import Limits
from tests.conformance import test_accuracy
from tests.faults import tiny
from tests.faults.answers import FEW_RIGHT
from tests.faults.plant import UNTIMED, fault, timed

BROKEN = "numerics ERROR, accuracy ERROR, published ERROR"

# ------------------------------------------------------------------------------------------- what was compiled


@fault("export ERROR, numerics ERROR, accuracy ERROR, published ERROR")
def the_export_has_the_batch_of_its_example(plant):
    """Fails at every other batch, or computes only the first row of each."""
    traced = lambda sound, *given, batch=None: sound(*given, batch=None)  # noqa: E731
    plant.code(export, "_traced", traced)
    plant.anew("export")


@fault("export ERROR, numerics ERROR, accuracy ERROR, published ERROR")
def other_weights_are_exported(plant):
    """The backbone is from another training run: the accuracy is that of an older model."""

    def other(sound, model, protocol, state, path, nms=False):
        sound(model, protocol, {key: value.roll(1) for key, value in state.items()}, path, nms=nms)

    plant.code(export, "export", other)
    plant.anew("export")


@fault("numerics INVALID", batch=1, also="attributes objects faces")
def the_chip_is_told_deviations_in_another_order(plant):
    """A model that a lab adds: right where the host normalises, and the chip is blamed where it does so itself."""
    for model in tiny.MODELS.values():
        (protocol,) = model.protocols
        told = replace(protocol.normalize, std=protocol.normalize.std[::-1])
        plant.monkeypatch.setitem(vars(protocol), "normalize", told)


@fault("numerics INVALID")  # a fresh build gives other outputs, and takes its place
def an_engine_outlives_its_weights(plant):
    """The engine's key does not contain the weights: the old accuracy is repeated exactly."""
    forgetful = store.Store.get

    def get(store, key, build, *, kind, suffix="", anew=False):
        kept = {name: value for name, value in key.items() if kind != "engine" or name != "source"}
        return forgetful(store, kept, build, kind=kind, suffix=suffix, anew=anew)

    plant.monkeypatch.setattr(store.Store, "get", get)
    plant.own_cache()
    path = plant.own_data() / "weights" / "tiny_classes.pth"
    older = {key: value.flip(0) for key, value in torch.load(path, weights_only=True).items()}
    torch.save(older, path)
    plant.conform("tiny_classes and bs4 and fp32", "outputs_are_those", plant.data, plant.cache)
    plant.data = plant.world.data


@fault(BROKEN)
def a_compiler_says_that_it_is_done_and_is_not(plant):
    """Yesterday's engine is measured."""
    plant.anew("backends")
    plant.chip("says_done")


def calibrated(plant, change):
    """Another file is calibrated on than the one that was made."""
    calibration = engine.CaseEngine.calibration

    def another(self):
        path = plant.folder / "another" / "calibration.npy"
        path.parent.mkdir(exist_ok=True)
        np.save(path, np.ascontiguousarray(change(np.load(calibration(self))), np.float32))
        return path

    plant.monkeypatch.setattr(engine.CaseEngine, "calibration", another)


IN_INT8 = {"batch": 1, "marks": "int8 and numerics", "names": "outputs_are_those"}


@fault("numerics ERROR", **IN_INT8)
def an_engine_is_calibrated_for_another_model(plant):
    """1 to 20 points are lost, in INT8 only."""
    calibrated(plant, lambda images: images * 58 + 110)


@fault("numerics ERROR", **IN_INT8)
def an_engine_is_calibrated_on_swapped_colours(plant):
    """Tenths of a point are lost, in INT8 only."""
    calibrated(plant, lambda images: images[:, ::-1])


@fault("numerics ERROR", **IN_INT8)
def an_engine_is_calibrated_on_one_picture(plant):
    """Ranges are too narrow for other pictures: some answers are wrong, in INT8 only."""
    calibrated(plant, lambda images: images[:1])


@fault("numerics ERROR", **IN_INT8)
def an_engine_is_calibrated_on_one_picture_many_times(plant):
    """As above; the number of pictures is right."""
    calibrated(plant, lambda images: np.repeat(images[:1], len(images), axis=0))


@fault("accuracy ERROR, published ERROR", batch=1, marks="int8 and accuracy")
def pictures_that_were_calibrated_on_are_scored(plant):
    """INT8 loses a little less than on pictures that it has not met."""
    sound = context.RunContext.calibration

    def leaking(self, model):
        _, rest = sound(self, model)
        return rest.take(range(32)), rest

    plant.monkeypatch.setattr(context.RunContext, "calibration", leaking)


def compiled_in(plant, precision):
    sound = engine.CaseEngine.spec
    plant.monkeypatch.setattr(
        engine.CaseEngine, "spec", lambda self, variant: replace(sound(self, variant), precision=precision)
    )


@fault("numerics INVALID", batch=1, marks="fp16 and numerics")
def an_engine_for_fp16_computes_in_fp32(plant):
    """All outputs are right, at half the speed: a flag of the compiler that is not set, or ignored."""
    compiled_in(plant, "fp32")


@fault("numerics FAIL, accuracy INCONCLUSIVE")
def an_engine_for_fp32_computes_in_fp16(plant):
    """Twice as fast, and one answer in a hundred changes: FP16 is the compiler's default."""
    compiled_in(plant, "fp16")


@fault("numerics INVALID", batch=1, marks="int8 and numerics")
def an_engine_for_int8_computes_in_fp16(plant):
    """Nothing is lost, at half the speed: no layer was quantised, and no message says so."""
    compiled_in(plant, "fp16")


def forgetting(plant, kind, part):
    """Keys of that kind lack a part, such as "source" or "spec.batch"."""
    sound, (outer, _, inner) = store.Store.get, part.partition(".")

    def get(self, key, build, *, kind, suffix="", anew=False, of=kind):
        kept = dict(key)
        if kind == of and inner:
            kept[outer] = {name: value for name, value in kept[outer].items() if name != inner}
        elif kind == of:
            del kept[outer]
        return sound(self, kept, build, kind=kind, suffix=suffix, anew=anew)

    plant.monkeypatch.setattr(store.Store, "get", get)
    plant.own_cache()


def after_other_weights(plant, kind):
    """What is kept of that kind is of weights that were there before, for its key lacks them."""
    forgetting(plant, kind, "weights")
    path = plant.own_data() / "weights" / "tiny_classes.pth"
    torch.save({key: value.flip(0) for key, value in torch.load(path, weights_only=True).items()}, path)
    plant.conform(f"tiny_classes and bs4 and fp32 and {UNTIMED}", "", plant.data, plant.cache)
    plant.data = plant.world.data


@fault("numerics INVALID", batch=1, marks="(fp16 or fp32) and numerics")
def the_key_of_an_engine_lacks_its_precision(plant):
    """Whichever precision is built first is measured for all."""
    forgetting(plant, "engine", "spec.precision")


@fault(BROKEN, marks=f"fp32 and {UNTIMED}")
def the_key_of_an_engine_lacks_its_batch(plant):
    """Whichever batch is built first is loaded for all."""
    forgetting(plant, "engine", "spec.batch")


@fault("numerics INVALID, accuracy INVALID, published INVALID")
def the_exported_file_outlives_its_weights(plant):
    """The chip is blamed for an older file."""
    after_other_weights(plant, "onnx")


@fault("accuracy INVALID")
def the_answers_of_the_reference_outlive_its_weights(plant):
    """The chip is blamed for answers that it never gave."""
    after_other_weights(plant, "reference")


@fault("numerics INVALID")
def the_outputs_of_the_reference_outlive_its_weights(plant):
    """As above, for raw outputs."""
    after_other_weights(plant, "witness")


@fault("numerics INVALID, accuracy INVALID, published INVALID")
def other_weights_are_exported_and_nobody_looks(plant):
    """The check after the export was taken out, for it took long."""
    other_weights_are_exported(plant)
    plant.monkeypatch.setattr(export, "check", lambda *given: None)


@fault("export ERROR, numerics ERROR, accuracy ERROR, published ERROR")
def the_variance_is_a_little_off_in_the_export(plant):
    """Batch norm is folded with another epsilon: every output is a percent off, and few answers change."""

    def off(sound, model, protocol, state, path, nms=False):
        moved = {key: value * (1.01 if "running_var" in key else 1) for key, value in state.items()}
        sound(model, protocol, moved, path, nms=nms)

    plant.code(export, "export", off)
    plant.anew("export")


@fault("numerics INVALID")
def the_reference_computes_in_half_precision(plant):
    """PyTorch uses TF32 or FP16 where the machine has it: the chip is held to a reference that is no better."""

    def half(sound, *given):
        return {name: value.astype(np.float16).astype(np.float32) for name, value in sound(*given).items()}

    plant.code(eager, "outputs", half)
    plant.anew("reference.eager")


@fault("numerics INVALID, accuracy INCONCLUSIVE")
def the_reference_is_left_in_training(plant):
    """Batch norm uses the statistics of the batch: the chip is blamed."""
    plant.code(eager, "network", lambda sound, *given: sound(*given).train())
    plant.anew("reference.eager")


# ------------------------------------------------------------------------------------------- data


@fault("published FAIL", names=FEW_RIGHT)
def weights_are_of_another_epoch(plant):
    """Chip and reference agree; the accuracy is another model's."""
    path = plant.own_data() / "weights" / "tiny_classes.pth"
    inputs = torch.from_numpy(np.stack([tiny.classes_in(tiny.picture(i, 90, 90), False).tensor for i in range(8)]))
    torch.save(tiny.drawn(tiny.Classifier(), inputs, seed=8).state_dict(), path)


@fault("export ERROR, numerics ERROR, accuracy ERROR, published ERROR")
def weights_are_of_another_model(plant):
    """Loaded with strict=False, half of the network keeps its random weights."""
    folder = plant.own_data() / "weights"
    (folder / "tiny_objects.pth").replace(folder / "tiny_classes.pth")


@fault("published FAIL", names=FEW_RIGHT)
def labels_are_off_by_one_picture(plant):
    """Near chance, without any error."""
    path = plant.own_data() / "tiny_classes" / "val_label.txt"
    names, labels = zip(*(line.split() for line in path.read_text().splitlines()), strict=True)
    path.write_text("".join(f"{n} {x}\n" for n, x in zip(names, labels[1:] + labels[:1], strict=True)))


@fault("published SKIP", names=FEW_RIGHT)
def pictures_are_missing(plant):
    """Scored on the pictures that are there, and reported as the whole set."""
    for path in sorted((plant.own_data() / "tiny_classes" / "val").glob("*7.bmp")):
        path.unlink()


@fault("numerics ERROR, accuracy ERROR, published ERROR")
def a_picture_is_listed_twice(plant):
    """Counted twice; the total may even be right."""
    path = plant.own_data() / "tiny_classes" / "val_label.txt"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:-1], lines[0]]))


@fault("accuracy ERROR, published ERROR")
def a_picture_that_cannot_be_read_is_passed_over(plant):
    """The denominator shrinks: the accuracy rises or holds."""
    plant.monkeypatch.setattr(prepared, "stream", lambda samples, prepare: map(prepare, [*samples[:40], *samples[41:]]))


@fault("accuracy ERROR, published ERROR")
def rows_that_fill_the_last_batch_are_counted(plant):
    """More answers than pictures."""
    sound = predictions.predict

    def padded(images, run, interpret, batch, advance):
        found = list(sound(images, run, interpret, batch, advance))
        return [*found, *found[-1:] * (-len(found) % batch)]

    plant.monkeypatch.setattr(predict, "predict", padded)


@fault("accuracy ERROR, published ERROR")
def the_last_batch_is_dropped_unless_it_is_full(plant):
    """Fewer answers than pictures."""
    sound = predictions.predict

    def cut(images, run, interpret, batch, advance):
        found = list(sound(images, run, interpret, batch, advance))
        return found[: len(found) // batch * batch]

    plant.monkeypatch.setattr(predict, "predict", cut)


@fault("accuracy ERROR, published ERROR")
def the_last_answer_is_the_one_before(plant):
    """An index that is off at the end of a batch that is not full."""
    sound = predictions.predict

    def repeated(*given):
        found = list(sound(*given))
        return [*found[:-1], found[-2]]

    plant.monkeypatch.setattr(predict, "predict", repeated)


@fault("accuracy ERROR, published ERROR", model="objects")
def frames_change_places_in_a_batch(plant):
    """Boxes are mapped back to the size of another picture; right where all have one size."""
    plant.code(predictions, "_interpret", lambda sound, read, outputs, frames: sound(read, outputs, frames[::-1]))
    plant.anew("reference.predictions")


@fault("accuracy ERROR, published ERROR", model="objects")
def the_frame_of_the_first_picture_serves_all(plant):
    """Chip and reference agree, and both are wrong on pictures of another size."""
    first = []

    def one(sound, read, outputs, frames):
        first.append(frames[0])
        return sound(read, outputs, [first[0]] * len(frames))

    plant.code(predictions, "_interpret", one)
    plant.anew("reference.predictions")


@fault("accuracy ERROR, published ERROR")
def pictures_overtake_each_other(plant):
    """Threads hand on what is ready first: chip and reference agree, and every second label is another's."""

    def hasty(samples, prepare):
        samples = list(samples)
        for i in range(0, len(samples) - 1, 2):
            samples[i : i + 2] = samples[i + 1], samples[i]
        return map(prepare, samples)

    plant.monkeypatch.setattr(prepared, "stream", hasty)
    plant.anew("reference.predictions")


@fault("accuracy INVALID, published INVALID")
def the_reference_is_scored_twice(plant):
    """The chip loses nothing, on every run."""
    sound = case_answers.CaseAnswers._scored

    def scored(self, answers, *given, **more):
        reference, _ = self._reference(answers.dataset)
        return sound(self, replace(answers, found=reference), *given, **more)

    plant.monkeypatch.setattr(case_answers.CaseAnswers, "_scored", scored)


@fault("numerics INVALID", names="outputs_are_those")
def chip_and_reference_get_other_pictures(plant):
    """A list that one of them begins at its second picture: the chip is blamed."""

    def shifted(sound, dataset, prepare, different, size):
        rows = [prepare(sample).tensor for sample in dataset.samples[1 : different + 1]]
        return np.stack([rows[i % len(rows)] for i in range(size)])

    plant.code(predict, "batch_of", shifted)


@fault("accuracy INVALID", names="agrees_with")
def answers_of_the_reference_change_places(plant):
    """A chip that is right is held against the answer to another picture."""
    plant.code(predict, "in_order", lambda sound, *given: sound(*given)[::-1])


@fault("accuracy ERROR, published ERROR")
def answers_of_the_case_before_are_judged(plant):
    """A cache whose key lacks the batch: one case passes by what another answered."""
    kept = []

    def before(sound, run):
        kept.append(sound(run))
        return kept[0]

    plant.code(test_accuracy, "answers_of", before)
    plant.conform("tiny_classes and fp32 and bs1 and accuracy", "", plant.data, plant.cache)


@fault("numerics INVALID", names="outputs_are_those")
def the_outputs_of_the_reference_are_compared_with_themselves(plant):
    """An error of exactly zero."""
    plant.monkeypatch.setattr(case_run.CaseRun, "first", property(case_run.CaseRun.wanted.func))


@fault("published FAIL")
def a_known_failure_no_longer_fails(plant):
    """The exception stays after its reason is gone and hides the next fault."""
    excuse = Deviation("tiny_classes-*", "published", "top1", "lost in translation", "nowhere", "tiny.toml", 2)
    plant.monkeypatch.setattr(matrix, "published", lambda: replace(plant.world.table, deviations=(excuse,)))


# ------------------------------------------------------------------------------------------- judges


@fault("protocol FAIL")
def the_upper_end_of_an_interval_decides(plant):
    """A chip passes by what it might reach."""
    plant.monkeypatch.setattr(stats.Estimate, "bound", lambda seen, alpha, *, upper: 1.2 * seen.high)


@fault("protocol FAIL")
def errors_are_told_in_another_unit(plant):
    """An absolute error is compared with a relative tolerance: networks with small outputs pass."""
    plant.monkeypatch.setattr(numerics, "_over", lambda error, size: error / 1000)


@fault("protocol FAIL")
def a_rate_may_be_three_times_what_the_latency_allows(plant):
    """Images are counted twice, and nobody asks."""
    plant.monkeypatch.setattr(judging, "IN_FLIGHT", 3.0)


# what the judges decide shows in the worked examples: a sound chip passes them all
EXAMPLES = {"marks": "fp32 and protocol"}


@fault("protocol FAIL", **EXAMPLES)
def only_the_first_output_is_judged(plant):
    """Boxes are right, and nobody looks at the scores."""

    def first(sound, chip, reference, *given):
        return sound(*({"y": next(iter(side.values()))} for side in (chip, reference)), *given)

    plant.code(worked, "judge_numerics", first)


@fault("protocol FAIL", **EXAMPLES)
def the_last_row_of_a_batch_is_not_judged(plant):
    """A loop that ends one early."""

    def cut(sound, chip, reference, *given):
        return sound(*({name: value[:3] for name, value in side.items()} for side in (chip, reference)), *given)

    plant.code(worked, "judge_numerics", cut)


@fault("protocol FAIL", **EXAMPLES)
def a_value_may_err_by_as_much_as_the_chips_largest(plant):
    """The error is compared with the chip's own value: one value that is far too large passes."""
    of_chip = lambda sound, name, sample, ours, wanted: {**sound(name, sample, ours, wanted), "largest": 0.0}  # noqa: E731
    plant.code(numerics, "_deviation", of_chip)


@fault("protocol FAIL", **EXAMPLES)
def chip_and_reference_change_places_in_the_bootstrap(plant):
    """A chip that loses objects is taken for one that finds more."""
    plant.code(
        accuracy, "paired_bootstrap", lambda sound, chip, reference, *g, **more: sound(reference, chip, *g, **more)
    )


@fault("protocol FAIL", **EXAMPLES)
def as_many_images_may_be_ruined_at_fp32_as_at_int8(plant):
    """The budget is looked up with the wrong precision."""
    plant.monkeypatch.setattr(accuracy, "BUDGET", dict.fromkeys(Precision, 0.05))


@fault("protocol FAIL", **EXAMPLES)
def every_look_may_spend_all_of_the_error(plant):
    """Looking until it passes: of chips at the bound, a third pass instead of a twentieth."""
    plant.monkeypatch.setattr(sampled, "spent", lambda look, last=False: 1.0)


@fault("protocol FAIL", **EXAMPLES)
def the_quickest_execute_is_the_latency(plant):
    """A runtime that skips executes is found by none of the others."""
    plant.code(judging, "percentile", lambda sound, seconds, share: sound(seconds, 0.0))


@fault("protocol FAIL", **EXAMPLES)
def percentiles_are_told_in_milliseconds(plant):
    """A policy that asks for at most 2,000 us passes a chip that takes two seconds."""
    ms = lambda sound, seconds: {n: v / 1000 if n.endswith("_us") else v for n, v in sound(seconds).items()}  # noqa: E731
    plant.code(worked, "percentiles", ms)


@fault("protocol FAIL", **EXAMPLES)
def a_target_is_judged_upside_down(plant):
    """The slower of two chips passes, and the quicker fails."""
    plant.code(judging, "ratio_interval", lambda sound, one, other: sound(other, one))


@fault("protocol FAIL", **EXAMPLES)
def the_warm_up_is_counted(plant):
    """Tenths of a percent too slow, or a first window that is far out."""

    def counted(sound, *given):
        told = sound(*given)
        return replace(told, windows=(*told.warmup, *told.windows))

    plant.code(worked, "measure", counted)


@fault("protocol FAIL", **EXAMPLES)
def the_second_measurement_alone_is_told(plant):
    """A red verdict is measured until it is green."""
    plant.code(repeat, "_both", lambda sound, first, second, how: second)


@fault("protocol FAIL", **EXAMPLES)
def a_row_of_a_policy_holds_after_its_last_day(plant):
    """A failure that was accepted until March is accepted for ever."""
    plant.monkeypatch.setattr(policy.Row, "ended", lambda row, today: False)


# ------------------------------------------------------------------------------------------- the worker


@fault("numerics INVALID, accuracy INVALID, published INVALID")
def another_provider_does_the_work(plant):
    """10 to 50 times slower, and all answers are right."""
    plant.chip("falls_back")


def limited(plant, limits):
    plant.code(context, "Worker", lambda sound, *given, **more: sound(*given, **{**more, "limits": limits}))


BESIDE = {"batch": 1, "marks": "fp32 and numerics", "names": "outputs_are_those"}


@fault("numerics ERROR", **BESIDE)
def the_sdk_takes_its_process_down(plant):
    """The rest of the nightly run is lost."""
    plant.chip("dies:1")


@fault("numerics ERROR", **BESIDE)
def a_call_never_comes_back(plant):
    """The run hangs until someone stops it."""
    limited(plant, Limits(run=10.0))
    plant.chip("hangs:1")


@fault("numerics ERROR", **BESIDE)
def the_sdk_takes_all_memory(plant):
    """The kernel kills the largest process."""
    limited(plant, Limits(memory=500 << 20))
    plant.chip("grows:1")


# ------------------------------------------------------------------------------------------- time


@timed("targets INVALID", batch=None)
def the_batch_is_not_run_but_counted(plant):
    """Latency does not depend on the batch; images per second grow with it."""
    plant.chip("batch_ignored")


@timed("throughput FAIL, targets INVALID", batch=None)
def latency_grows_faster_than_the_batch(plant):
    """A batch is run row by row, and each row costs as much as the whole batch."""
    plant.chip("batch_twice")


@timed("throughput FAIL")
def the_chip_is_slow(plant):
    """A quarter of the published throughput."""
    plant.chip("slow")


@timed("throughput INCONCLUSIVE")
def the_chip_slows_down_meanwhile(plant):
    """Windows drift, and their mean is the speed at no time."""
    plant.chip("slows_down")


@timed("throughput INCONCLUSIVE")
def the_first_session_shows_the_faster_of_two_clocks(plant):
    """97 % of the published throughput in the first process, 92 % in every further one."""
    plant.chip("fast_at_first")
    plant.monkeypatch.setenv("TESTBED_ONCE", str(plant.folder / "once"))
    plant.monkeypatch.setattr(case_speed.CaseSpeed, "_patience", lambda self, default: 60.0)


@timed("throughput INVALID")
def images_are_counted_twice(plant):
    """A rate that already counts images is multiplied by the batch again."""
    speed = case_speed.CaseSpeed.estimate.func

    def twice(self):
        once = speed(self)
        value, low, high = (self.case.batch * rate for rate in (once.value, once.low, once.high))
        return replace(once, value=value, low=low, high=high)

    plant.monkeypatch.setattr(case_speed.CaseSpeed, "estimate", property(twice))


def counted(plant, times):
    """Rates of the chip, multiplied."""
    rates = windows.Measurement.rates.fget
    plant.monkeypatch.setattr(
        windows.Measurement, "rates", property(lambda run: tuple(times * rate for rate in rates(run)))
    )


@timed("throughput INVALID")
def every_image_is_counted_double(plant):
    """Twice the published throughput, which newer software might reach."""
    counted(plant, 2)


@timed("throughput INVALID")
def a_chip_at_60_percent_counts_double(plant):
    """1.2 times the published throughput, which looks plausible."""
    plant.chip("at_60_percent")
    counted(plant, 2)


@timed("throughput INVALID")
def a_chip_at_60_percent_counts_for_four(plant):
    """2.4 times the published throughput: one device of a card, scaled."""
    plant.chip("at_60_percent")
    plant.monkeypatch.setattr(windows.Measurement, "scaled", 4.0)


@timed("throughput INVALID")
def the_figure_of_another_batch_is_asked(plant):
    """A chip at 60 percent passes by what batch 1 reaches."""
    plant.chip("at_60_percent")

    def other(sound, table, case, metric):
        return sound(table, replace(case, batch=1), metric)

    plant.code(Baselines, "cell", other)


@timed("throughput INVALID")
def only_the_best_windows_are_counted(plant):
    """A rate that the device has now and then."""
    plant.chip("now_and_then_another")
    best = lambda rates: sorted(rates)[-len(rates) // 10 :]  # noqa: E731
    plant.code(windows, "over_sessions", lambda sound, sessions: sound([best(rates) for rates in sessions]))


@timed("throughput INVALID")
def executes_are_counted_and_not_images(plant):
    """A quarter of the published throughput at batch 4, all of it at batch 1."""
    plant.code(windows, "speed_of", lambda sound, run, batch: sound(run, 1))


@timed("throughput FAIL")
def a_chip_is_at_60_percent(plant):
    """The card is throttled, in another mode, or another model."""
    plant.chip("at_60_percent")


@timed("throughput INVALID")
def outputs_are_remembered_by_their_inputs(plant):
    """A throughput that no stream of different pictures reaches."""
    plant.chip("remembers")


@timed("throughput INVALID")
def outputs_of_all_inputs_are_kept(plant):
    """The pictures of a benchmark are a handful; those of a server are always new."""
    plant.chip("keeps_all")


@timed("throughput INVALID")
def half_of_what_is_repeated_is_computed(plant):
    """A chip at 60 percent passes, and its outputs are right: the other half is still there from the first execute."""
    plant.chip("halves_what_is_repeated")


@timed("throughput INVALID")
def a_third_of_what_is_repeated_is_kept(plant):
    """As before, with less to gain: no cache of a host gives so much."""
    plant.chip("saves_a_third_of_what_is_repeated")


@timed("throughput INVALID")
def a_backend_says_that_a_hundred_executes_are_in_flight(plant):
    """Rate and latency then fit whatever is skipped."""
    plant.chip("claims_many_in_flight")


@timed("throughput INVALID")
def latencies_are_told_in_milliseconds(plant):
    """A thousandth of the time in which a window says that the execute is done."""
    told = windows.Measurement.latencies.fget
    plant.monkeypatch.setattr(
        windows.Measurement, "latencies", property(lambda run: tuple(seconds / 1000 for seconds in told(run)))
    )


@timed("throughput INVALID")
def the_clock_of_a_tool_stands_still(plant):
    """A report without times is read as one of zeros."""
    plant.chip("stands_still")


@timed("throughput INVALID")
def every_second_timed_execute_is_skipped(plant):
    """Twice the published throughput, and every output that is read is right."""
    plant.chip("skips_every_second_timed")


@timed("throughput INVALID")
def every_fourth_timed_execute_is_skipped_at_three_quarters(plant):
    """A chip at 75 percent reaches the published throughput, and every output that is read is right."""
    plant.code(registry, "backend", lambda sound, name: replace(sound(name), launched_whole=True))
    plant.chip("skips_every_fourth_timed")


@timed("throughput INVALID")
def every_sixth_timed_execute_is_skipped(plant):
    """A fifth too fast, which single executes that take no launch beside might explain."""
    plant.code(registry, "backend", lambda sound, name: replace(sound(name), launched_whole=True))
    plant.chip("skips_every_sixth_timed")


@timed("throughput INVALID")
def one_timed_execute_in_five_is_skipped_at_random(plant):
    """A chip at 80 percent reaches the published throughput: frames are dropped where the queue is full."""
    plant.code(registry, "backend", lambda sound, name: replace(sound(name), launched_whole=True))
    plant.chip("skips_at_random")


@timed("throughput INVALID")
def half_of_each_batch_is_computed_while_it_is_timed(plant):
    """A chip at 60 percent passes; the rows that are left out hold what they held before."""
    plant.chip("half_a_batch_under_load")


@timed("throughput FAIL")
def equal_rows_are_computed_once(plant):
    """A chip at half its speed passes, where a batch repeats the pictures that the reference has answered."""
    plant.monkeypatch.setattr(case_run, "WITNESS_IMAGES", 2)
    plant.chip("computes_equal_rows_once")


@timed("throughput INVALID")
def every_second_execute_is_skipped(plant):
    """Every second time the buffer holds the answer to other inputs."""
    plant.chip("skips_every_second")


@timed("throughput INVALID")
def a_card_of_one_device_counts_for_four(plant):
    """Exactly four times too fast."""
    plant.monkeypatch.setattr(windows.Measurement, "scaled", 4.0)


@timed("throughput INVALID, targets INVALID", batch=None)
def nobody_waits_for_the_device(plant):
    """Impossibly fast: only the queueing is timed."""
    plant.chip("does_not_wait")


@timed("throughput INVALID, targets INVALID", batch=None)
def inputs_that_were_seen_before_cost_nothing(plant):
    """Fast only when inputs repeat."""
    plant.chip("remembers")


@timed("throughput INVALID")
def what_is_timed_is_not_done(plant):
    """The buffer still holds the answer of the previous run, which is right."""
    plant.chip("skips_what_is_timed")


@timed("throughput INVALID")
def executes_in_flight_share_a_buffer(plant):
    """Right when one waits for the other, and when all have one input, as in a benchmark."""
    plant.chip("shares_a_buffer")


@timed("throughput INVALID")
def a_buffer_is_lost_at_each_execute(plant):
    """Right and quick; a server dies after a day."""
    plant.chip("leaks")


@timed("throughput INVALID")
def memory_of_the_device_is_lost_at_each_execute(plant):
    """Right and quick, and the worker does not grow; the next engine does not fit."""
    plant.chip("loses_device_memory")
    plant.code(throughput, "_watch", lambda sound, look, done: [look() for _ in range(4)])


@timed("throughput INVALID")
def outputs_differ_under_load(plant):
    """What was timed is not what was scored."""
    plant.chip("wrong_under_load")


@fault("numerics INVALID")
def the_device_is_wrong_at_first(plant):
    """A loose contact, a cold start: the failed test is run again by hand and passes."""
    plant.monkeypatch.setenv("TESTBED_ONCE", str(plant.folder / "once"))
    plant.chip("wrong_at_first")


@fault("numerics ERROR, accuracy ERROR, published ERROR")  # and the first verdict is on record, as INVALID
def the_device_is_wrong_and_then_dies(plant):
    """The wrong answers are forgotten over the crash that follows."""
    plant.monkeypatch.setenv("TESTBED_ONCE", str(plant.folder / "once"))
    plant.chip("wrong_then_dies")


@timed("throughput INVALID")
def a_load_passes(plant):
    """Red at night, green in the morning: a backup ran meanwhile."""
    plant.monkeypatch.setenv("TESTBED_ONCE", str(plant.folder / "once"))
    plant.chip("busy_at_first")


@timed("throughput INVALID")
def the_device_is_busy_before(plant):
    """Latency has two modes; the value cannot be reproduced."""
    plant.chip("busy_before")


@timed("throughput INVALID")
def the_use_of_the_device_is_no_number(plant):
    """`nan > limit` is false: idle."""
    plant.chip("use_is_nan")


@timed("throughput INVALID")
def another_program_takes_the_device_meanwhile(plant):
    """As above, but the device was idle when it was checked."""
    plant.chip("used_after")


@timed("throughput INVALID")
def the_device_throttles(plant):
    """Every device of a rack gives another value."""
    plant.chip("throttled")


@timed("throughput INVALID")
def the_device_throttles_under_load_alone(plant):
    """Cool before and a moment after: neither look shows it."""
    plant.chip("throttled_under_load")


@timed("throughput INVALID")
def the_clock_changes_meanwhile(plant):
    """Windows drift."""
    plant.chip("clock_falls")


@timed("throughput INVALID")
def the_device_is_damaged(plant):
    """Memory errors, corrected by repeating."""
    plant.chip("unhealthy")
