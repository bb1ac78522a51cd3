"""The simulated CANN refuses what the real one would refuse, or would not survive: the vendor's code, a ledger line.

Without this, a clean run on it would say nothing.
"""

from __future__ import annotations

import gc

import numpy as np
import pytest
from ascend_tiny import NORMALIZE, begin_anew, cann, compiled, convert, images, pixels, run_atc, spec

H2D, D2H = 1, 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("engines")


@pytest.fixture
def sdk(monkeypatch, tmp_path):
    with cann(monkeypatch, tmp_path) as sdk:
        import acl

        sdk.acl = acl
        sdk.state = acl.chip.state
        begin_anew(acl.chip)
        sdk.switch(slow=0.01)
        yield sdk
        begin_anew(acl.chip)


class Held:
    """A model ready to run, made by the bare calls."""

    def __init__(self, acl, engine):
        self.acl = acl
        assert acl.init() == 0
        assert acl.rt.set_device(0) == 0
        self.context, _ = acl.rt.create_context(0)
        self.stream, _ = acl.rt.create_stream()
        self.model, code = acl.mdl.load_from_file(str(engine))
        assert code == 0
        self.desc = acl.mdl.create_desc()
        assert acl.mdl.get_desc(self.desc, self.model) == 0
        self.inputs, self.fed = self.dataset("input")
        self.outputs, self.made = self.dataset("output")

    def dataset(self, side):
        acl, rows = self.acl, []
        dataset = acl.mdl.create_dataset()
        for index in range(getattr(acl.mdl, f"get_num_{side}s")(self.desc)):
            size = getattr(acl.mdl, f"get_{side}_size_by_index")(self.desc, index)
            memory, _ = acl.rt.malloc(size, 0)
            buffer = acl.create_data_buffer(memory, size)
            acl.mdl.add_dataset_buffer(dataset, buffer)
            rows.append((memory, size, buffer))
        return dataset, rows

    def write(self, array=None):
        data = (images() if array is None else array).tobytes()
        memory, size, _ = self.fed[0]
        return self.acl.rt.memcpy(memory, size, self.acl.util.bytes_to_ptr(data), len(data), H2D)

    def submit(self):
        return self.acl.mdl.execute_async(self.model, self.inputs, self.outputs, self.stream)

    def read(self, index=0):
        memory, size, _ = self.made[index]
        host, _ = self.acl.rt.malloc_host(size)
        self.acl.rt.memcpy(host, size, memory, size, D2H)
        data = self.acl.util.ptr_to_bytes(host, size)
        self.acl.rt.free_host(host)
        return np.frombuffer(data, np.float32)

    def close(self):
        acl = self.acl
        for dataset, rows in ((self.inputs, self.fed), (self.outputs, self.made)):
            for memory, _, buffer in rows:
                acl.destroy_data_buffer(buffer)
                acl.rt.free(memory)
            acl.mdl.destroy_dataset(dataset)
        acl.mdl.destroy_desc(self.desc)
        acl.mdl.unload(self.model)
        acl.rt.destroy_stream(self.stream)
        acl.rt.destroy_context(self.context)
        acl.rt.reset_device(0)


@pytest.fixture
def held(sdk, folder):
    _, engine = compiled(folder, "static.om", spec())
    return Held(sdk.acl, engine)


def test_the_right_way_leaves_the_ledger_empty(sdk, held):
    assert held.write() == 0
    assert held.submit() == 0
    assert sdk.acl.rt.synchronize_stream(held.stream) == 0
    first = held.read()
    held.close()

    assert np.isfinite(first).all()
    assert sdk.acl.finalize() == 0
    assert sdk.wrongs() == []
    assert sdk.state.handles() == {}


# each row: what the caller does wrong, and the code that he gets (None: only the ledger tells, as on a real chip)
WRONG = {
    "memory freed twice": (lambda h: (h.acl.rt.free(h.fed[0][0]), h.acl.rt.free(h.fed[0][0]))[1], 107000),
    "memory freed that was never given": (lambda h: h.acl.rt.free(0x1234), 107000),
    "host memory freed as device memory": (lambda h: h.acl.rt.free(h.acl.rt.malloc_host(64)[0]), 107000),
    "device memory freed as host memory": (lambda h: h.acl.rt.free_host(h.fed[0][0]), 107000),
    "a stream destroyed twice": (
        lambda h: (h.acl.rt.destroy_stream(h.stream), h.acl.rt.destroy_stream(h.stream))[1], 107003),
    "a model unloaded twice": (lambda h: (h.acl.mdl.unload(h.model), h.acl.mdl.unload(h.model))[1], 145003),
    "a description destroyed twice": (
        lambda h: (h.acl.mdl.destroy_desc(h.desc), h.acl.mdl.destroy_desc(h.desc))[1], 100000),
    "a data set destroyed twice": (
        lambda h: (h.acl.mdl.destroy_dataset(h.inputs), h.acl.mdl.destroy_dataset(h.inputs))[1], 100000),
    "a buffer destroyed twice": (
        lambda h: (h.acl.destroy_data_buffer(h.fed[0][2]), h.acl.destroy_data_buffer(h.fed[0][2]))[1], 100000),
    "a device reset twice": (lambda h: (h.acl.rt.reset_device(0), h.acl.rt.reset_device(0))[1], 507007),
    "arguments exchanged in get_desc": (lambda h: h.acl.mdl.get_desc(h.model, h.desc), 100000),
    "data sets exchanged in execute": (lambda h: h.acl.mdl.execute(h.model, h.outputs, h.inputs), 145000),
    "a model taken for a data set": (lambda h: h.acl.mdl.execute(h.model, h.model, h.outputs), 100000),
    "size and policy exchanged": (lambda h: h.acl.rt.malloc(0, 4096)[1], 107000),
    "no memory asked for": (lambda h: h.acl.rt.malloc(0, 0)[1], 107000),
    "a path that is bytes": (lambda h: h.acl.mdl.load_from_file(b"x.om")[1], 100000),
    "a copy larger than its target": (
        lambda h: h.acl.rt.memcpy(h.fed[0][0], 16, h.acl.rt.malloc_host(64)[0], 64, H2D), 107000),
    "a target said larger than it is": (
        lambda h: h.acl.rt.memcpy(h.fed[0][0], h.fed[0][1] + 1, h.acl.rt.malloc_host(64)[0], 64, H2D), 107000),
    "a copy larger than its source": (
        lambda h: h.acl.rt.memcpy(h.fed[0][0], h.fed[0][1], h.acl.rt.malloc_host(64)[0], 65, H2D), 107000),
    "a copy larger than the caller's object": (
        lambda h: (vars(h).update(kept=bytes(bytearray(64))), h.acl.rt.memcpy(
            h.fed[0][0], h.fed[0][1], h.acl.util.bytes_to_ptr(h.kept), 65, H2D))[1], None),
    "a copy of the wrong kind": (  # the vendor ignores it, this project does not
        lambda h: h.acl.rt.memcpy(h.fed[0][0], h.fed[0][1], h.acl.rt.malloc_host(64)[0], 64, D2H), None),
    "a copy from nowhere": (lambda h: h.acl.rt.memcpy(h.fed[0][0], h.fed[0][1], 0x99, 64, H2D), 107000),
    "a stream destroyed while it works": (
        lambda h: (h.write(), h.submit(), h.acl.rt.destroy_stream(h.stream))[2], 107003),
    "memory freed while it is used": (lambda h: (h.write(), h.submit(), h.acl.rt.free(h.fed[0][0]))[2], 107000),
    "inputs written while they are used": (lambda h: (h.write(), h.submit(), h.write())[2], 107000),
    "a model unloaded while it runs": (lambda h: (h.write(), h.submit(), h.acl.mdl.unload(h.model))[2], 145003),
    "one model on two streams": (
        lambda h: (h.write(), h.submit(), h.acl.mdl.execute_async(
            h.model, h.inputs, h.outputs, h.acl.rt.create_stream()[0]))[2], 145003),
    "an execute with a buffer missing": (
        lambda h: h.acl.mdl.execute(h.model, h.acl.mdl.create_dataset(), h.outputs), 145000),
    "an execute on memory given back": (
        lambda h: (h.acl.rt.free(h.fed[0][0]), h.acl.mdl.execute(h.model, h.inputs, h.outputs))[1], 145000),
    "an execute with a destroyed buffer": (
        lambda h: (h.acl.destroy_data_buffer(h.fed[0][2]), h.acl.mdl.execute(h.model, h.inputs, h.outputs))[1], 100000),
    "an execute in another context": (
        lambda h: (h.acl.rt.create_context(0), h.acl.mdl.execute(h.model, h.inputs, h.outputs))[1], 107002),
    "an execute without a context": (
        lambda h: (h.acl.rt.destroy_context(h.context), h.acl.mdl.execute(h.model, h.inputs, h.outputs))[1], 107002),
    "a stream of another context": (
        lambda h: (h.acl.rt.create_context(0), h.acl.rt.synchronize_stream(h.stream))[1], 107003),
    "a batch set on a static model": (
        lambda h: h.acl.mdl.set_dynamic_batch_size(h.model, h.inputs, 0, 4), 100019),
    "a context of a device that was not set": (lambda h: h.acl.rt.create_context(1)[1], 107001),
    "finalize twice": (lambda h: (h.close(), h.acl.finalize(), h.acl.finalize())[2], 100037),
    "finalize before all is given back": (lambda h: h.acl.finalize(), None),
    "a callback on a stream without a thread": (lambda h: h.acl.rt.launch_callback(print, 0, 1, h.stream), 100034),
    "a report outside a thread": (lambda h: h.acl.rt.process_report(1), 100034),
    "a tensor description destroyed twice": (
        lambda h: [h.acl.destroy_tensor_desc(handle) for handle in [h.acl.create_tensor_desc(0, [1], 2)] * 2][1], None),
    "an image size set on a static model": (
        lambda h: h.acl.mdl.set_dynamic_hw_size(h.model, h.inputs, 0, 8, 8), 100019),
    "a fill larger than its target": (lambda h: h.acl.rt.memset(h.fed[0][0], 16, 0, 64), 107000),
    "a queued copy whose source is gone": (
        lambda h: (vars(h).update(kept=bytes(bytearray(64))), h.acl.rt.memcpy_async(
            h.fed[0][0], h.fed[0][1], h.acl.util.bytes_to_ptr(h.kept), 64, 1, h.stream),
            vars(h).pop("kept") and None, gc.collect(), h.acl.rt.synchronize_stream(h.stream))[4], None),
    "memory freed while a queued copy uses it": (
        lambda h: (h.acl.rt.memcpy_async(h.fed[0][0], 64, h.acl.rt.malloc_host(64)[0], 64, 1, h.stream),
                   h.acl.rt.free(h.fed[0][0]))[1], 107000),
    "an engine in device memory": (lambda h: h.acl.mdl.load_from_mem(h.fed[0][0], 64)[1], 145000),
    "an execute that reads nothing written": (lambda h: h.submit(), None),
    "outputs read before they were waited for": (lambda h: (h.write(), h.submit(), h.read())[0], None),
    "outputs read that nothing wrote": (lambda h: (h.read(), 0)[1], None),
}  # fmt: skip


@pytest.mark.parametrize("deed", WRONG)
def test_a_broken_rule_gets_its_code_and_a_line_in_the_ledger(sdk, held, deed):
    do, code = WRONG[deed]

    answer = do(held)

    assert (answer or 0) == (code or 0)
    assert sdk.wrongs(), "the ledger says nothing"
    if code is not None:
        assert sdk.acl.get_recent_err_msg()
        assert sdk.acl.get_recent_err_msg() is None, "reading the message clears it"


@pytest.mark.parametrize(
    "call",
    [
        lambda h: h.acl.rt.malloc(64.0, 0),
        lambda h: h.acl.rt.malloc(np.int64(64), 0),
        lambda h: h.acl.rt.memcpy(np.uint64(h.fed[0][0]), 16, 0, 16, H2D),
        lambda h: h.acl.create_data_buffer(h.fed[0][0], np.prod([4, 16])),
        lambda h: h.acl.mdl.get_input_dims(h.desc, np.int32(0)),
        lambda h: h.acl.util.ptr_to_numpy(h.fed[0][0], (np.int64(4),), 11),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:acl.util")
def test_a_size_or_an_address_is_python_s_int_and_nothing_else(sdk, held, call):
    """pyACL parses them as unsigned long: a NumPy integer is a TypeError."""
    with pytest.raises(TypeError, match="int"):
        call(held)


def test_a_kind_a_device_and_a_policy_may_be_integers_of_numpy(sdk, held):
    address, code = sdk.acl.rt.malloc(64, np.int64(0))

    assert (code, sdk.acl.rt.free(address)) == (0, 0)
    assert sdk.acl.rt.set_device(np.int32(0)) == 0
    assert sdk.acl.rt.reset_device(0) == 0


def test_a_description_that_fails_is_an_empty_one(sdk, held):
    """As pyACL answers: a program that reads .get("dims") before the status finds nothing, and no None."""
    assert sdk.acl.mdl.get_input_dims(held.desc, 7) == ({}, 100000)
    assert sdk.acl.mdl.get_dynamic_batch(0)[0] == {}


def test_host_memory_may_be_named_by_an_address_that_a_program_found_itself(sdk, held):
    memory, size, _ = held.fed[0]
    kept, back = images(), np.zeros(size, np.uint8)

    assert sdk.acl.rt.memcpy(memory, size, kept.ctypes.data, size, H2D) == 0
    assert sdk.acl.rt.memcpy(back.__array_interface__["data"][0], size, memory, size, D2H) == 0

    assert back.tobytes() == kept.tobytes()
    assert sdk.state.violations == []
    assert all("acl.util did not give" in line for line in sdk.wrongs()), "which this project's backends must not do"
    assert sdk.acl.rt.memcpy(memory, size, 64, size, H2D) == 107000, "nothing lies there"


def test_events_tell_when_a_stream_came_to_them(sdk, held):
    acl = sdk.acl
    sdk.switch(slow=2)
    held.write()
    (start, _), (end, _) = acl.rt.create_event(), acl.rt.create_event_with_flag(1)
    assert acl.rt.event_elapsed_time(start, end)[1] == 107000, "neither was recorded"
    acl.chip.state.violations.clear()

    assert [acl.rt.record_event(start, held.stream), held.submit(), held.submit()] == [0, 0, 0]
    assert acl.rt.record_event(end, held.stream) == 0
    assert acl.rt.synchronize_event(end) == 0

    milliseconds, code = acl.rt.event_elapsed_time(start, end)
    assert (code, acl.rt.query_event(end), acl.rt.query_event_status(end)) == (0, (0, 0), (1, 0))
    assert 0.99 < milliseconds / (2 * 1000 * acl.chip.state.clocks[0].last) < 10, "that of two executes"
    other, _ = acl.rt.create_stream()
    assert [acl.rt.stream_wait_event(other, end), acl.rt.synchronize_stream(other)] == [0, 0]
    assert [acl.rt.destroy_stream(other), acl.rt.destroy_event(start), acl.rt.destroy_event(end)] == [0, 0, 0]
    assert sdk.state.violations == []


def test_the_default_stream_has_no_handle_and_a_device_waits_for_all(sdk, held):
    acl = sdk.acl
    held.write()

    assert acl.mdl.execute_async(held.model, held.inputs, held.outputs, 0) == 0
    assert acl.rt.synchronize_device(0) == 0, "what takes nothing does not look at what it is given"

    assert np.abs(held.read()).max() > 0
    assert [acl.rt.get_device(), sdk.state.violations] == [(0, 0), []]


def test_a_stream_has_one_priority_and_tells_whether_it_is_done(sdk, held):
    """rt_stream of pyACL; the range as a user found it on a 310B with CANN 7.0."""
    rt = sdk.acl.rt
    assert sdk.acl.get_version() == (1, 13, 0, 0)
    assert (rt.device_get_stream_priority_range(), rt.set_op_wait_timeout(5)) == ((0, 0, 0), 0)
    assert rt.create_stream_with_config(1, 0) == (0, 107000)
    stream, code = rt.create_stream_with_config(0, 0)
    assert code == 0
    held.write()

    assert sdk.acl.mdl.execute_async(held.model, held.inputs, held.outputs, stream) == 0
    assert rt.stream_query(stream) == (0xFFFF, 0)
    assert rt.synchronize_stream(stream) == 0
    assert rt.stream_query(stream) == (0, 0)
    assert rt.destroy_stream_force(stream) == 0
    assert rt.stream_query(stream)[1] == 107003


def test_an_engine_is_described_from_its_file_without_being_loaded(sdk, held, folder):
    """mdl_wrap of pyACL: a status alone. Programs that show what an engine takes ask so."""
    mdl, path = sdk.acl.mdl, folder / "static.om"
    size, desc = len(path.read_bytes()), mdl.create_desc()
    data = path.read_bytes()
    for ask in (lambda: mdl.get_desc_from_file(desc, str(path)),
                lambda: mdl.get_desc_from_mem(desc, sdk.acl.util.bytes_to_ptr(data), size)):  # fmt: skip
        assert ask() == 0
        assert mdl.get_input_dims(desc, 0) == mdl.get_input_dims(held.desc, 0)
        assert mdl.get_output_name_by_index(desc, 0) == mdl.get_output_name_by_index(held.desc, 0)
    (folder / "none.om").write_bytes(b"no engine")
    assert mdl.get_desc_from_file(desc, str(folder / "none.om")) == 545001
    assert mdl.destroy_desc(desc) == 0


def test_whether_somebody_set_a_device_may_be_asked_before_init(sdk):
    assert sdk.acl.rt.get_device() == (0, 107002)
    assert sdk.state.violations == []


def test_an_engine_is_loaded_by_a_configuration(sdk, held, folder):
    acl, engine = sdk.acl, compiled(folder, "static.om", spec())[1]
    handle = acl.mdl.create_config_handle()
    assert acl.mdl.load_with_config(handle) == (0, 100000)
    sdk.state.violations.clear()

    assert [acl.mdl.set_config_opt(handle, 1, 1), acl.mdl.set_config_opt(handle, 2, str(engine))] == [0, 0]
    model, code = acl.mdl.load_with_config(handle)

    assert (code, acl.mdl.unload(model), acl.mdl.destroy_config_handle(handle)) == (0, 0, 0)
    data = engine.read_bytes()
    handle = acl.mdl.create_config_handle()
    for attribute, value in ((1, 3), (3, acl.util.bytes_to_ptr(data)), (4, len(data))):
        assert acl.mdl.set_config_opt(handle, attribute, value) == 0
    model, code = acl.mdl.load_with_config(handle)
    assert (code, acl.mdl.unload(model), acl.mdl.destroy_config_handle(handle)) == (0, 0, 0)
    assert sdk.state.violations == []


def test_the_models_of_a_bundle_are_loaded_and_given_back_together(sdk, held, folder):
    """As run_bundle_model.py of hicann/ge runs them one after the other."""
    mdl = sdk.acl.mdl
    engine = compiled(folder, "static.om", spec())[1].read_bytes()
    whole = sdk.acl.mdl.cann.pack_bundle([engine, engine])
    (folder / "bundle.om").write_bytes(whole)
    data, before = whole, len(sdk.state.models)
    for load in (
        lambda: mdl.bundle_load_from_file(str(folder / "bundle.om")),
        lambda: mdl.bundle_load_from_mem(sdk.acl.util.bytes_to_ptr(data), len(data)),
    ):
        bundle, code = load()
        assert (code, mdl.bundle_get_model_num(bundle)) == (0, (2, 0))
        models = [mdl.bundle_get_model_id(bundle, index) for index in range(2)]
        assert all(code == 0 for _, code in models)
        assert models[0] != models[1]
        desc = mdl.create_desc()
        assert mdl.get_desc(desc, models[1][0]) == 0
        assert mdl.get_input_dims(desc, 0) == mdl.get_input_dims(held.desc, 0)
        assert (mdl.destroy_desc(desc), mdl.bundle_unload(bundle), len(sdk.state.models)) == (0, 0, before)
    assert sdk.state.violations == []


def test_what_is_no_bundle_or_is_a_damaged_one_leaves_nothing(sdk, held, folder):
    mdl, (_, engine) = sdk.acl.mdl, compiled(folder, "static.om", spec())
    before = len(sdk.state.models)
    whole = sdk.acl.mdl.cann.pack_bundle([engine.read_bytes(), engine.read_bytes()])
    for name, data in (("cut.om", whole[:-9]), ("none.om", b"no bundle")):
        (folder / name).write_bytes(data)

    assert mdl.bundle_load_from_file(str(engine)) == (0, 100000)
    assert mdl.bundle_load_from_file(str(folder / "none.om")) == (0, 100000)
    assert mdl.bundle_load_from_file(str(folder / "cut.om")) == (0, 545001)
    (folder / "whole.om").write_bytes(whole)
    assert mdl.load_from_file(str(folder / "whole.om")) == (0, 545001)
    assert len(sdk.state.models) == before
    bundle, _ = mdl.bundle_load_from_file(str(folder / "whole.om"))
    assert mdl.bundle_get_model_id(bundle, 2) == (0, 100000)
    assert [mdl.bundle_unload(bundle), mdl.bundle_unload(bundle)] == [0, 100000]


def test_a_data_buffer_takes_other_memory(sdk, held):
    acl = sdk.acl
    _, size, buffer = held.fed[0]
    other, _ = acl.rt.malloc(size, 0)

    assert acl.update_data_buffer(buffer, other, size) == 0

    assert acl.get_data_buffer_addr(buffer) == other
    assert acl.update_data_buffer(buffer, held.fed[0][0], size) == 0
    assert acl.rt.free(other) == 0


def test_profiling_begins_and_ends_in_order(sdk, held, tmp_path):
    acl = sdk.acl
    assert [acl.prof.init(str(tmp_path / "none")), acl.prof.init(str(tmp_path))] == [100000, 0]

    config = acl.prof.create_config([0], 1, 0, 7)

    assert [acl.prof.start(config), acl.prof.stop(config), acl.prof.destroy_config(config)] == [0, 0, 0]
    assert [acl.prof.finalize(), sdk.state.violations] == [0, []]
    config = acl.prof.create_config([0], 1, 0, 7)
    assert [acl.prof.stop(config), acl.prof.destroy_config(config)] == [100000, 0]


@pytest.mark.parametrize("module", ["media", "op", "himpi", "blas", "fv"])
def test_what_is_not_simulated_says_so(sdk, module):
    with pytest.raises(NotImplementedError, match=rf"acl\.{module}\.create is not simulated"):
        getattr(sdk.acl, module).create(1)


def test_init_may_be_repeated_as_newer_releases_allow(sdk):
    acl = sdk.acl

    assert [acl.init(), acl.init(), acl.finalize(), acl.init(), acl.finalize()] == [0, 100002, 0, 0, 0]
    assert sdk.wrongs() == []
    sdk.switch(cann="5")
    assert [acl.init(), sdk.wrongs() != []] == [100002, True]


def test_what_is_read_too_early_is_garbage(sdk, held):
    held.write()
    held.submit()

    early = held.read()

    sdk.acl.rt.synchronize_stream(held.stream)
    assert not np.allclose(early, held.read())


def test_a_pointer_outlives_its_bytes_no_longer_than_they_live(sdk, held):
    memory, size, _ = held.fed[0]
    kept = images().tobytes()
    gone = sdk.acl.util.bytes_to_ptr(images(seed=2).tobytes())
    gc.collect()

    assert sdk.acl.rt.memcpy(memory, size, gone, size, H2D) == 0, "the runtime copies what lies there now"
    assert "given back already" in sdk.wrongs()[0]
    assert sdk.acl.rt.memcpy(memory, size, sdk.acl.util.bytes_to_ptr(kept), size, H2D) == 0


def test_a_device_address_is_no_address_of_the_process(sdk, held):
    assert sdk.acl.util.ptr_to_bytes(held.fed[0][0], 64) is None
    assert "SIGSEGV" in sdk.wrongs()[0]


def test_an_array_that_is_not_contiguous_warns_and_is_noted(sdk, held):
    with pytest.warns(Warning, match="discontiguous|deprecated") as told:
        sdk.acl.util.numpy_to_ptr(images().transpose(0, 2, 3, 1))

    assert ["deprecated" in str(each.message) for each in told] == [True, False]
    assert "discontiguous" in str(told[1].message)

    assert sdk.wrongs()


def test_calls_before_init_are_refused(sdk):
    assert sdk.acl.rt.set_device(0) == 100001
    assert sdk.acl.rt.get_device_count() == (0, 100001)
    assert sdk.acl.create_data_buffer(1, 1) == 0


def test_each_kind_of_leak_is_told_when_the_device_is_reset(sdk, held):
    sdk.acl.rt.reset_device(0)

    told = " ".join(sdk.wrongs())
    for kind in ("context", "stream", "model", "device memory"):
        assert kind in told


def test_a_context_of_a_device_that_was_reset_is_of_no_use_but_may_be_destroyed(sdk, held):
    """The I3D program of the vendor's model zoo ends so."""
    sdk.acl.rt.reset_device(0)

    assert sdk.acl.rt.malloc(64, 0)[1] == 107002
    assert sdk.acl.rt.get_context() == (held.context, 0)
    assert sdk.acl.rt.destroy_context(held.context) == 0
    assert sdk.acl.rt.get_context()[1] == 107002


def test_a_batch_that_was_not_compiled_is_refused(sdk, folder):
    _, engine = compiled(folder, "tiers.om", spec(tiers=(1, 4, 8)))
    held = Held(sdk.acl, engine)

    assert sdk.acl.mdl.get_dynamic_batch(held.desc) == ({"batchCount": 3, "batch": [1, 4, 8]}, 0)
    assert sdk.acl.mdl.set_dynamic_batch_size(held.model, held.inputs, 1, 2) == 145013
    assert sdk.acl.mdl.set_dynamic_batch_size(held.model, held.inputs, 0, 4) == 145000
    assert sdk.acl.mdl.set_dynamic_batch_size(held.model, held.inputs, 1, 4) == 0
    assert sdk.acl.mdl.get_input_dims(held.desc, 0)[0]["dims"] == [-1, 3, 8, 8]
    assert sdk.acl.mdl.get_output_dims(held.desc, 0)[0]["dims"] == [8, 4, 8, 8]
    assert sdk.acl.mdl.get_cur_output_dims(held.desc, 0)[0]["dims"] == [4, 4, 8, 8]


def test_the_largest_batch_runs_when_none_was_set(sdk, folder):
    _, engine = compiled(folder, "tiers.om", spec(tiers=(1, 4, 8)))
    held = Held(sdk.acl, engine)
    held.write(images(8))

    assert sdk.acl.mdl.execute(held.model, held.inputs, held.outputs) == 0
    assert np.isfinite(held.read()).all()
    assert sdk.wrongs() == []


def test_an_engine_that_normalises_takes_bytes(sdk, folder):
    _, engine = compiled(folder, "aipp.om", spec(normalize=NORMALIZE))
    held = Held(sdk.acl, engine)

    assert sdk.acl.mdl.get_input_dims(held.desc, 0)[0]["dims"] == [4, 8, 8, 3]
    assert sdk.acl.mdl.get_input_data_type(held.desc, 0) == 4
    assert held.fed[0][1] == pixels().nbytes


def test_executes_wait_for_one_another_on_the_devices_own_clock(sdk, held):
    import simulate

    clock = sdk.state.clocks[0]
    sdk.switch(slow=1000)
    held.write()
    held.submit()
    first = clock.free_at
    for _ in range(9):
        held.submit()

    assert clock.free_at - first == pytest.approx(9 * simulate.latency_seconds(4))
    assert simulate.latency_seconds(8) > simulate.latency_seconds(4)


# --- calls that vendors' programs use and the suite does not -------------------------------------------------------


def test_an_engine_is_loaded_from_memory_and_with_memory_of_the_caller(sdk, held, folder):
    acl = sdk.acl
    path = str(folder / "static.om")
    data = (folder / "static.om").read_bytes()

    from_memory, code = acl.mdl.load_from_mem(acl.util.bytes_to_ptr(data), len(data))
    assert code == 0
    work, weights, code = acl.mdl.query_size(path)
    assert code == 0
    places = [acl.rt.malloc(size, 0)[0] for size in (work, weights)]
    with_memory, code = acl.mdl.load_from_file_with_mem(path, places[0], work, places[1], weights)
    assert code == 0
    assert acl.mdl.load_from_file_with_mem(path, places[0], work, places[1], weights - 1) == (0, 145000)
    del sdk.state.violations[:]

    held.write()
    answers = []
    for model in (held.model, from_memory, with_memory):
        assert acl.mdl.execute(model, held.inputs, held.outputs) == 0
        answers.append(held.read())
        assert acl.mdl.unload(model) == 0 or model == held.model
    assert (answers[0] == answers[1]).all()
    assert (answers[0] == answers[2]).all()
    assert acl.rt.free(places[0]) == 0
    assert sdk.state.violations == []


def test_what_a_description_says_beside_the_dims(sdk, held):
    acl = sdk.acl
    name = acl.mdl.get_output_name_by_index(held.desc, 1)

    assert acl.mdl.get_output_index_by_name(held.desc, name) == (1, 0)
    assert acl.mdl.get_output_index_by_name(held.desc, "none")[1] == 100000
    assert acl.mdl.get_input_dims_v2(held.desc, 0) == acl.mdl.get_input_dims(held.desc, 0)
    assert acl.mdl.get_input_format(held.desc, 0) == 0
    assert [acl.mdl.get_output_format(held.desc, i) for i in range(2)] == [0, 2]
    buffer = acl.mdl.get_dataset_buffer(held.inputs, 0)
    assert acl.get_data_buffer_size(buffer) == acl.get_data_buffer_size_v2(buffer) == images().nbytes
    assert acl.app_log(1, "a word") is None


def test_memory_is_filled_and_copied_on_a_stream(sdk, held):
    acl = sdk.acl
    memory, size, _ = held.fed[0]
    host, _ = acl.rt.malloc_host(size)
    data = images().tobytes()

    assert acl.rt.memset(memory, size, 0, size) == 0
    assert acl.rt.memset(host, size, 7, size) == 0
    assert acl.rt.memcpy_async(memory, size, acl.util.bytes_to_ptr(data), size, H2D, held.stream) == 0
    assert acl.rt.memcpy_async(host, size, memory, size, D2H, held.stream) == 0
    assert acl.util.ptr_to_bytes(host, size) == bytes([7]) * size, "nothing is copied before its turn"
    assert acl.rt.synchronize_stream(held.stream) == 0
    assert acl.util.ptr_to_bytes(host, size) == data
    assert acl.rt.memset_async(host, size, 1, 4, held.stream) == 0
    acl.rt.synchronize_stream(held.stream)
    assert acl.util.ptr_to_bytes(host, 8) == bytes([1]) * 4 + data[4:8]
    free, total, code = acl.rt.get_mem_info(0)
    assert (code, 0 < free < total) == (0, True)
    assert acl.rt.get_device_utilization_rate(0)[0]["cube_utilization"] == 0
    acl.rt.free_host(host)
    assert sdk.state.violations == []


def test_an_array_that_is_not_contiguous_is_copied_by_the_call_for_it(sdk, held):
    view = images().transpose(0, 2, 3, 1)

    with pytest.warns(Warning, match="will be deprecated"):
        address, kept = sdk.acl.util.numpy_contiguous_to_ptr(view)

    with pytest.warns(Warning, match="will be deprecated"):
        assert sdk.acl.util.ptr_to_numpy(address, view.shape, 11).tolist() == view.tolist()
    assert kept.flags.c_contiguous
    assert sdk.wrongs() == []


def test_callbacks_come_in_a_thread_that_is_subscribed_in_the_order_of_the_stream(sdk, held):
    """As vendors' asynchronous samples do it: a thread takes reports, the main one queues executes and callbacks."""
    acl, said, over = sdk.acl, [], []

    def take(arguments):
        assert acl.rt.set_context(arguments[0]) == 0
        while not over:
            acl.rt.process_report(20)

    thread, code = acl.util.start_thread(take, [held.context])
    assert (code, acl.rt.subscribe_report(thread, held.stream)) == (0, 0)
    held.write()
    for number in range(3):
        held.submit()
        assert acl.rt.launch_callback(said.append, number, 1, held.stream) == 0
    assert acl.rt.synchronize_stream(held.stream) == 0
    assert said == [0, 1, 2]
    assert acl.rt.unsubscribe_report(thread, held.stream) == 0
    over.append(1)
    assert acl.util.stop_thread(thread) == 0
    assert sdk.wrongs() == []


def test_a_callback_that_raises_was_taken(sdk, held):
    """The stream goes on, and the program's own exception is all there is to read."""
    acl, seen = sdk.acl, []

    def take(arguments):
        assert acl.rt.set_context(arguments[0]) == 0
        while not seen:
            try:
                acl.rt.process_report(20)
            except ZeroDivisionError as error:
                seen.append(error)

    thread, _ = acl.util.start_thread(take, [held.context])
    assert acl.rt.subscribe_report(thread, held.stream) == 0
    assert acl.rt.launch_callback(lambda zero: 1 / zero, 0, 1, held.stream) == 0
    assert acl.rt.synchronize_stream(held.stream) == 0
    assert len(seen) == 1
    assert acl.rt.unsubscribe_report(thread, held.stream) == 0
    assert acl.util.stop_thread(thread) == 0
    assert sdk.wrongs() == []


# --- what atc's other flags make -----------------------------------------------------------------------------------


def test_an_engine_of_image_sizes_runs_at_each(sdk, tmp_path):
    flags = ["--input_shape=image:1,3,-1,-1", "--dynamic_image_size=8,8;16,12"]
    status, said, engine = convert(sdk, tmp_path, *flags)
    assert status == 0, said
    held, mdl = Held(sdk.acl, engine), sdk.acl.mdl
    index, code = mdl.get_input_index_by_name(held.desc, "ascend_mbatch_shape_data")
    assert (index, code, held.fed[0][1]) == (1, 0, 3 * 16 * 12 * 4)
    assert mdl.get_dynamic_hw(held.desc, 0) == ({"hwCount": 2, "hw": [[8, 8], [16, 12]]}, 0)

    for height, width in ((8, 8), (16, 12)):
        assert mdl.set_dynamic_hw_size(held.model, held.inputs, index, height, width) == 0
        held.write(np.ones((1, 3, height, width), np.float32))
        assert mdl.execute(held.model, held.inputs, held.outputs) == 0
        assert mdl.get_cur_output_dims(held.desc, 0)[0]["dims"] == [1, 4, height, width]
    assert sdk.wrongs() == []
    assert mdl.set_dynamic_hw_size(held.model, held.inputs, index, 8, 12) == 145013


CROPPED = (
    "aipp_op { aipp_mode: static related_input_rank: 0 input_format: RGB888_U8 src_image_size_w: 12 "
    "src_image_size_h: 10 crop: true load_start_pos_h: 1 load_start_pos_w: 3 crop_size_w: 8 "
    "crop_size_h: 8 min_chn_0: 104 }"
)


def test_an_engine_takes_a_part_of_the_picture(sdk, tmp_path):
    """23 of the 39 AIPP files of Ascend/ModelZoo-PyTorch say crop, 11 where."""
    answers = []
    for name, text in (("crop", CROPPED), ("whole", CROPPED.replace("_w: 12", "_w: 8").replace("_h: 10", "_h: 8")
                                           .replace("crop: true", "crop: false"))):  # fmt: skip
        (tmp_path / f"{name}.cfg").write_text(text)
        status, said, engine = convert(
            sdk, tmp_path, "--input_shape=image:1,3,8,8", f"--insert_op_conf={tmp_path}/{name}.cfg"
        )
        assert status == 0, said
        begin_anew(sdk.acl.chip)
        held = Held(sdk.acl, engine)
        picture = np.random.RandomState(1).randint(0, 255, (1, 10, 12, 3)).astype(np.uint8)
        fed = picture if name == "crop" else picture[:, 1:9, 3:11]
        assert sdk.acl.mdl.get_input_dims(held.desc, 0)[0]["dims"] == list(fed.shape)
        held.write(np.ascontiguousarray(fed))
        assert sdk.acl.mdl.execute(held.model, held.inputs, held.outputs) == 0
        answers.append(held.read())
    np.testing.assert_array_equal(*answers)


@pytest.mark.parametrize(
    ("said", "other", "reason"),
    [
        ("load_start_pos_w: 3", "load_start_pos_w: 5", "[8, 8] from [1, 5] of [10, 12]"),
        ("crop_size_w: 8", "crop_size_w: 6", "the input is"),
        ("min_chn_0: 104", "resize: true", "[resize] is not simulated"),
        ("min_chn_0: 104", "cropp: true", "[cropp] is not a field"),
        ("min_chn_0: 104", "csc_switch: true", "csc_switch true is not simulated"),
        ("RGB888_U8", "YUV420SP_U8", "input_format YUV420SP_U8 is not simulated"),
    ],
)
def test_an_aipp_file_is_refused_for_what_it_says(sdk, tmp_path, said, other, reason):
    (tmp_path / "aipp.cfg").write_text(CROPPED.replace(said, other))

    status, text, _ = convert(sdk, tmp_path, "--input_shape=image:1,3,8,8", f"--insert_op_conf={tmp_path}/aipp.cfg")

    assert status == 255
    assert "E10052" in text
    assert reason in text


def test_an_engine_of_image_sizes_normalises_at_each(sdk, tmp_path):
    (tmp_path / "aipp.cfg").write_text("aipp_op { aipp_mode: static input_format: RGB888_U8 mean_chn_0: 104 }")
    flags = ["--input_shape=image:1,3,-1,-1", "--dynamic_image_size=8,8;16,12", f"--insert_op_conf={tmp_path}/aipp.cfg"]
    status, said, engine = convert(sdk, tmp_path, *flags)
    assert status == 0, said
    held, mdl = Held(sdk.acl, engine), sdk.acl.mdl
    assert mdl.get_input_dims(held.desc, 0)[0]["dims"] == [1, -1, -1, 3]
    assert held.fed[0][1] == 16 * 12 * 3

    assert mdl.set_dynamic_hw_size(held.model, held.inputs, 1, 16, 12) == 0
    held.write(np.ones((1, 16, 12, 3), np.uint8))
    assert mdl.execute(held.model, held.inputs, held.outputs) == 0
    assert mdl.get_cur_output_dims(held.desc, 0)[0]["dims"] == [1, 4, 16, 12]
    assert sdk.wrongs() == []


def test_each_input_of_an_open_height_and_width_gets_the_size(sdk, tmp_path):
    import onnx
    from onnx import TensorProto, helper

    kind = TensorProto.FLOAT
    free = [helper.make_tensor_value_info(name, kind, [1, 3, "h", "w"]) for name in ("first", "second", "sum")]
    fixed = helper.make_tensor_value_info("fixed", kind, [1, 3, 1, 1])
    nodes = [
        helper.make_node("Add", ["fixed", "first"], ["partly"]),
        helper.make_node("Add", ["partly", "second"], ["sum"]),
    ]
    graph = helper.make_graph(nodes, "added", [fixed, *free[:2]], free[2:])
    opset = [helper.make_opsetid("", 11)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=7), str(tmp_path / "added.onnx"))
    flags = ["--input_shape=fixed:1,3,1,1;first:1,3,-1,-1;second:1,3,-1,-1", "--dynamic_image_size=8,8;16,12;"]

    status, said, engine = run_atc(tmp_path / "added.onnx", tmp_path, *flags)
    assert status == 0, said
    held, mdl = Held(sdk.acl, engine), sdk.acl.mdl

    assert mdl.get_dynamic_hw(held.desc, 0) == ({"hwCount": 2, "hw": [[8, 8], [16, 12]]}, 0)
    assert [held.fed[index][1] for index in range(3)] == [12, 3 * 16 * 12 * 4, 3 * 16 * 12 * 4]
    assert mdl.set_dynamic_hw_size(held.model, held.inputs, 3, 16, 12) == 0
    assert mdl.get_cur_output_dims(held.desc, 0)[0]["dims"] == [1, 3, 16, 12]


def test_an_engine_of_several_dims_runs_at_each(sdk, tmp_path):
    flags = ["--input_shape=image:-1,3,-1,8", "--dynamic_dims=1,8;2,10", "--input_format=ND"]
    status, said, engine = convert(sdk, tmp_path, *flags)
    assert status == 0, said
    held, mdl = Held(sdk.acl, engine), sdk.acl.mdl
    count, code = mdl.get_input_dynamic_gear_count(held.desc, -1)
    gears, _ = mdl.get_input_dynamic_dims(held.desc, -1, count)
    assert (mdl.get_input_data_type(held.desc, 1), held.fed[1][1]) == (3, 2 * 4), "INT32, one for each size of a gear"
    assert (code, [gear["dims"] for gear in gears]) == (0, [[1, 3, 8, 8], [2, 3, 10, 8]])

    for gear in gears:
        assert mdl.set_input_dynamic_dims(held.model, held.inputs, 1, gear) == 0
        held.write(np.ones(gear["dims"], np.float32))
        assert mdl.execute(held.model, held.inputs, held.outputs) == 0
        assert mdl.get_cur_output_dims(held.desc, 1)[0]["dims"] == [gear["dims"][0], 4]
    assert sdk.wrongs() == []


@pytest.mark.parametrize(
    "flag",
    [
        "--input_shape_range=image:[1~4,3,8~32,8]",
        "--input_shape=image:1~4,3,8~32,8",
        "--input_shape=1~4,3,8~32,8",
        "--input_shape=image:-1,3,-1,8",
    ],
)
def test_an_engine_without_shapes_is_given_them_and_gives_them_back(sdk, tmp_path, flag):
    status, said, engine = convert(sdk, tmp_path, flag)
    assert status == 0, said
    acl = sdk.acl
    assert acl.init() == acl.rt.set_device(0) == 0
    model, _ = acl.mdl.load_from_file(str(engine))
    desc = acl.mdl.create_desc()
    acl.mdl.get_desc(desc, model)
    assert acl.mdl.get_output_size_by_index(desc, 0) == 0
    inputs, outputs = acl.mdl.create_dataset(), acl.mdl.create_dataset()
    for dataset, count in ((inputs, 1), (outputs, 2)):
        for _ in range(count):
            acl.mdl.add_dataset_buffer(dataset, acl.create_data_buffer(acl.rt.malloc(1 << 16, 0)[0], 1 << 16))
    data = np.ones((2, 3, 16, 8), np.float32).tobytes()
    address = acl.get_data_buffer_addr(acl.mdl.get_dataset_buffer(inputs, 0))
    acl.rt.memcpy(address, 1 << 16, acl.util.bytes_to_ptr(data), len(data), H2D)

    assert acl.mdl.execute(model, inputs, outputs) == 145000, "no shape was given"
    del sdk.state.violations[:]
    given = acl.create_tensor_desc(0, [2, 3, 16, 8], 0)
    assert acl.get_tensor_desc_size(given) == len(data)
    assert acl.mdl.set_dataset_tensor_desc(inputs, given, 0) == (inputs, 0)
    acl.destroy_tensor_desc(given)
    assert acl.mdl.execute(model, inputs, outputs) == 0
    shapes = []
    for index in range(2):
        made = acl.mdl.get_dataset_tensor_desc(outputs, index)
        shapes.append([acl.get_tensor_desc_dim_v2(made, k)[0] for k in range(acl.get_tensor_desc_num_dims(made))])
    assert shapes == [[2, 4, 16, 8], [2, 4]]
    whole, _ = acl.rt.malloc_host(1 << 16)
    address = acl.get_data_buffer_addr(acl.mdl.get_dataset_buffer(outputs, 1))
    assert acl.rt.memcpy(whole, 1 << 16, address, 1 << 16, D2H) == 0, "the whole buffer, as vendors' programs copy it"
    assert np.isfinite(np.frombuffer(acl.util.ptr_to_bytes(whole, 2 * 4 * 4), np.float32)).all()
    assert sdk.state.violations == []


SHAPE = "--input_shape=image:2,3,8,8"


def test_inputs_and_outputs_have_the_types_that_were_asked_for(sdk, tmp_path):
    status, said, engine = convert(sdk, tmp_path, SHAPE, "--input_fp16_nodes=image", "--output_type=FP16")
    assert status == 0, said
    held = Held(sdk.acl, engine)

    assert sdk.acl.mdl.get_input_data_type(held.desc, 0) == 1
    assert [sdk.acl.mdl.get_output_data_type(held.desc, i) for i in range(2)] == [1, 1]
    assert held.write(images(2).astype(np.float16)) == 0
    assert sdk.acl.mdl.execute(held.model, held.inputs, held.outputs) == 0
    half = np.frombuffer(held.read(1).tobytes(), np.float16)
    _, _, plain = convert(sdk, tmp_path, SHAPE)
    begin_anew(sdk.acl.chip)
    other = Held(sdk.acl, plain)
    other.write(images(2))
    sdk.acl.mdl.execute(other.model, other.inputs, other.outputs)
    assert np.allclose(half, other.read(1), atol=2e-3)


def test_a_graph_of_halves_feeds_itself_and_its_batch_is_no_batch(sdk, tmp_path):
    """As TransformerXL's net_infer.py runs: FP16 in the graph, axis 0 of another length in each input, and an output in
    the memory of the input that it is the next value of."""
    import onnx
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["memory", "one"], ["next"], name="Add_0"),
            helper.make_node("ReduceSum", ["x"], ["sum"], name="ReduceSum_1"),
        ],
        "memory", [value("x", TensorProto.FLOAT, [5, 2]), value("memory", TensorProto.FLOAT16, [3, 4])],
        [value("sum", TensorProto.FLOAT, [1, 1]), value("next", TensorProto.FLOAT16, [3, 4])],
        [helper.make_tensor("one", TensorProto.FLOAT16, [], [1.0])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)])
    model.ir_version = 7
    onnx.save(model, str(tmp_path / "memory.onnx"))
    status, said, engine = run_atc(tmp_path / "memory.onnx", tmp_path)
    assert status == 0, said
    held, acl = Held(sdk.acl, engine), sdk.acl
    memory, size, _ = held.fed[1]
    zeros = bytes(size)
    acl.rt.memcpy(memory, size, acl.util.bytes_to_ptr(zeros), size, H2D)
    held.write(np.ones((5, 2), np.float32))
    outputs = acl.mdl.create_dataset()
    for pointer, room in (held.made[0][:2], (memory, size)):
        acl.mdl.add_dataset_buffer(outputs, acl.create_data_buffer(pointer, room))

    for _ in range(3):
        assert acl.mdl.execute(held.model, held.inputs, outputs) == 0

    assert held.read(0).tolist() == [10.0]
    host, _ = acl.rt.malloc_host(size)
    acl.rt.memcpy(host, size, memory, size, D2H)
    assert np.frombuffer(acl.util.ptr_to_bytes(host, size), np.float16).tolist() == [3.0] * 12
    assert sdk.wrongs() == []


@pytest.mark.parametrize(
    ("flags", "code"),
    [
        ([SHAPE, "--input_fp16_nodes=picture"], "E10016"),
        ([SHAPE, "--output_type=FP8"], "E10001"),
        ([SHAPE, "--precision_mode_v2=origin"], "E10001"),
        ([SHAPE, "--precision_mode_v2=half"], "E10001"),
        ([SHAPE, "--precision_mode=force_fp32"], "E10001"),
        ([SHAPE, "--precision_mode_v2=fp16", "--precision_mode=force_fp16"], "E10047"),
        (["--input_shape=image:1,3,-1,-1", "--dynamic_image_size=8,8"], "E10035"),
        (["--input_shape=image:1,3,-1,-1", "--dynamic_image_size=8,8;8,8"], "E10036"),
        (["--input_shape=image:1,3,8,-1", "--dynamic_image_size=8,8;9,9"], "E10019"),
        (["--input_shape=image:-1,3,-1,-1", "--dynamic_dims=1,8;2,8"], "E10042"),
        (["--input_shape=image:-1,3,-1,-1", "--dynamic_dims=1,8,8;2,8,8", "--dynamic_image_size=8,8;9,9"], "E10009"),
        (["--input_shape=image:1~4,3,8,8", "--dynamic_batch_size=1,4"], "E10040"),
        (["--input_shape=image:1,3,-1,-1", "--dynamic_image_size=8,8,8;9,9,9"], "E10020"),
        (["--input_shape=image:1,3,0,0"], "E10011"),
        (["--input_shape=image:N,3,8,8"], "E10014"),
        (["--input_shape=image:1.5,3,8,8"], "E10002"),
        (["--input_shape=image"], "E10002"),
        ([SHAPE, "--log=verbose"], "E10010"),
        ([SHAPE, "--framework=2"], "E10007"),
        ([SHAPE, "--framework=3"], "E10001"),
        ([SHAPE, "--framework=0"], "E10008"),
        ([SHAPE, "--enable_small_channel=true"], "E10006"),
        ([SHAPE, "--disable_reuse_memory=2"], "E10006"),
        ([SHAPE, "--op_select_implmode=high_preformance"], "E10001"),
        ([SHAPE, "--buffer_optimize=off"], "E10001"),
        ([SHAPE, "--compression_optimize_conf=quant.cfg"], "E10001"),
        ([SHAPE, "--auto_tune_mode=RL,GA"], "E10001"),
    ],
)
def test_what_a_flag_cannot_do_is_refused(sdk, tmp_path, flags, code):
    status, said, _ = convert(sdk, tmp_path, *flags)

    assert status == 255
    assert f"\n{code}: " in said


@pytest.mark.parametrize(
    "flags",
    [
        ["--op_select_implmode=high_precision_for_all", "--buffer_optimize=off_optimize", "--op_debug_level=1"],
        ["--save_original_model=false", "--check_report=report.json", "--fusion_switch_file=fusion_switch.cfg"],
        ["--deterministic=1", "--host_env_os=linux", "--host_env_cpu=aarch64", "--external_weight=0"],
        ["--optypelist_for_implmode=Gelu,Sigmoid", "--op_select_implmode=high_performance", "--display_model_info=1"],
        ["--is-input-adjust-hw-layout=false", "-log=info", "--enable_scope_fusion_passes=ScopeLayerNormPass"],
        ["--out_n=out"],  # getopt_long takes an abbreviation that is unique
    ],
)  # fmt: skip
def test_options_of_published_command_lines_are_taken(sdk, tmp_path, flags):
    status, said, _ = convert(sdk, tmp_path, SHAPE, *[flag.replace("=out", "=features") for flag in flags])

    assert status == 0, said


def test_blanks_in_a_shape_are_passed_over(sdk, tmp_path):
    """As in command lines that are broken over several lines inside their quotes."""
    status, said, _ = convert(sdk, tmp_path, "--input_shape= image : -1, 3, 8, 8", "--dynamic_batch_size=1, 2,4")

    assert status == 0, said


@pytest.mark.parametrize("flag", ["--input=x", "--strategies=1", "--out=x"])
def test_an_option_that_does_not_exist_or_is_not_unique_is_refused(sdk, tmp_path, flag):
    assert convert(sdk, tmp_path, SHAPE, flag)[0] == 255


def test_a_precision_mode_of_newer_releases_is_taken(sdk, tmp_path):
    assert convert(sdk, tmp_path, SHAPE, "--precision_mode_v2=fp16")[0] == 0


# --- BatchMultiClassNMS --------------------------------------------------------------------------------------------


def slow_nms(boxes, scores, threshold, overlap, most_of_a_class, most):
    """The operator as its documentation says it, one box at a time."""
    kept = []
    for label in range(scores.shape[1]):
        order = sorted(
            (i for i in range(len(boxes)) if scores[i, label] > threshold), key=lambda i: (-float(scores[i, label]), i)
        )
        alive = []
        for i in order:
            if len(alive) == most_of_a_class:
                break
            if all(iou(boxes[i], boxes[j]) <= overlap for j in alive):
                alive.append(i)
        kept += [(float(scores[i, label]), label, i) for i in alive]
    return sorted(kept, key=lambda item: -item[0])[:most]


def iou(a, b):
    a, b = [float(v) for v in a], [float(v) for v in b]
    shared = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def candidates(seed, count=60, classes=5):
    random = np.random.RandomState(seed)
    corner = random.uniform(0, 600, (count, 2))
    boxes = np.concatenate([corner, corner + random.uniform(20, 300, (count, 2))], 1).astype(np.float16)
    return boxes, random.uniform(0, 1, (count, classes)).astype(np.float16) ** 2


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("most_of_a_class", "most"), [(100, 100), (3, 100), (100, 7), (1, 2)])
def test_the_operator_for_nms_equals_its_definition(sdk, seed, most_of_a_class, most):
    import simulated_cann

    boxes, scores = candidates(seed)
    wanted = slow_nms(boxes, scores, 0.05, 0.6, most_of_a_class, most)

    out, best, labels, count = simulated_cann.multi_class_nms(
        boxes[None, :, None], scores[None], np.float32(0.05), np.float32(0.6), most_of_a_class, most
    )

    assert count[0] == len(wanted)
    assert out.shape == (1, most, 4)
    assert {array.dtype.name for array in (out, best, labels)} == {"float16"}
    assert best[0, : len(wanted)].astype(float).tolist() == [item[0] for item in wanted]
    ours = {(label, tuple(box)) for label, box in zip(labels[0].tolist(), out[0].tolist(), strict=True)}
    assert {(float(label), tuple(boxes[i].tolist())) for _, label, i in wanted} <= ours
    assert not out[0, len(wanted) :].any()
    assert not best[0, len(wanted) :].any()


def test_a_graph_with_the_operator_is_compiled_and_run(sdk, tmp_path):
    import onnx
    from onnx import TensorProto, helper

    from harness.backends.ascend import acl
    from harness.backends.base import BuildSpec, Device, TensorSpec

    value = helper.make_tensor_value_info
    attributes = {"score_threshold": 0.05, "iou_threshold": 0.6, "max_size_per_class": 100, "max_total_size": 100}
    nodes = [
        helper.make_node("Slice", ["image", "zero", "four", "axis"], ["boxes"], name="Slice_0"),
        helper.make_node("Slice", ["image", "four", "nine", "axis"], ["scores"], name="Slice_1"),
        helper.make_node("Unsqueeze", ["boxes"], ["boxes4"], name="Unsqueeze_2", axes=[2]),
        helper.make_node("Cast", ["boxes4"], ["b16"], name="Cast_3", to=TensorProto.FLOAT16),
        helper.make_node("Cast", ["scores"], ["s16"], name="Cast_4", to=TensorProto.FLOAT16),
        helper.make_node(
            "BatchMultiClassNMS", ["b16", "s16"], ["nb", "ns", "nc", "nn"], name="BatchMultiClassNMS_5", **attributes
        ),
        helper.make_node("Cast", ["nb"], ["dets"], name="Cast_6", to=TensorProto.FLOAT),
        helper.make_node("Cast", ["nc"], ["labels"], name="Cast_7", to=TensorProto.INT64),
    ]
    constants = [
        helper.make_tensor(name, TensorProto.INT64, [1], [number])
        for name, number in (("zero", 0), ("four", 4), ("nine", 9), ("axis", 2))
    ]
    outputs = [value("dets", TensorProto.FLOAT, [1, 100, 4]), value("labels", TensorProto.INT64, [1, 100])]
    graph = helper.make_graph(nodes, "nms", [value("image", TensorProto.FLOAT, [1, 60, 9])], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)])
    model.ir_version = 7
    onnx.save(model, str(tmp_path / "nms.onnx"))
    boxes, scores = candidates(0)
    image = np.concatenate([boxes, scores], 1).astype(np.float32)[None]
    known = BuildSpec(
        "fp16", 1, (TensorSpec("image", "float32", (-1, 60, 9)),), ("labels", "dets"), target="Ascend310P3",
        options={"out_nodes": ["Cast_7:0", "Cast_6:0"]},
    )  # fmt: skip

    acl.build(tmp_path / "nms.onnx", tmp_path / "nms.om", known)
    with acl.load(tmp_path / "nms.om", Device(0, "310P3"), known) as session:
        session.write({"image": image})
        session.execute()
        found = session.read()

    wanted = slow_nms(boxes, scores, np.float16(0.05), 0.6, 100, 100)
    assert found["labels"].dtype == np.int64
    assert found["labels"][0, : len(wanted)].tolist() == [label for _, label, _ in wanted]
    assert found["dets"][0, : len(wanted)].tolist() == [boxes[i].astype(float).tolist() for _, _, i in wanted]
    assert not found["dets"][0, len(wanted) :].any()
