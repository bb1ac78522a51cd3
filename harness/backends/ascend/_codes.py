"""What CANN's status codes mean, and what to do about them.

Codes and names: aclError in the CANN API reference and the headers acl_base.h, rt_error_codes.h, ge_error_codes.h;
the compiler's E codes from its error reference and, for names in --out_nodes (E10016), its source. Advice is ours.
"""

from __future__ import annotations

WAIT_TIMEOUT = 107019  # the one code that the vendor says to try again
STREAM_FULL = 507002  # of an asynchronous call: wait for the stream, then make it again
REPEAT_INITIALIZE = 100002  # of acl.init: somebody else in this process was first, which is fine

MEANINGS = {
    100000: "INVALID_PARAM: an argument is wrong",
    100001: "UNINITIALIZE: acl.init was not called",
    100002: "REPEAT_INITIALIZE: initialised or loaded twice",
    100003: "INVALID_FILE: the file cannot be used",
    100005: "INVALID_FILE_SIZE: the file is empty or too large",
    100006: "PARSE_FILE: the file cannot be parsed",
    100011: "INVALID_MODEL_ID: there is no such model",
    100012: "DESERIALIZE_MODEL: the engine cannot be read",
    100013: "PARSE_MODEL: the engine cannot be parsed",
    100014: "READ_MODEL_FAILURE: the engine cannot be read",
    100015: "MODEL_SIZE_INVALID: the engine has a wrong size",
    100016: "MODEL_MISSING_ATTR: the engine lacks an attribute",
    100017: "MODEL_INPUT_NOT_MATCH: the inputs are not the engine's",
    100018: "MODEL_OUTPUT_NOT_MATCH: the outputs are not the engine's",
    100019: "MODEL_NOT_DYNAMIC: the engine has a fixed batch",
    100026: "UNSUPPORTED_DATA_TYPE",
    100037: "REPEAT_FINALIZE: finalised twice",
    100039: "COMPILING_STUB_MODE: the libraries found are the compiler's stubs",
    148049: "INVALID_OPP_PATH: ASCEND_OPP_PATH is unset or wrong",
    148051: "RESOURCE_NOT_CLEARED: a resource was not released",
    200000: "BAD_ALLOC: memory could not be allocated",
    200001: "API_NOT_SUPPORT: this release does not have the call",
    200002: "INVALID_DEVICE",
    200005: "INVALID_RESOURCE_HANDLE",
    200006: "FEATURE_UNSUPPORTED",
    300000: "STORAGE_OVER_LIMIT",
    500000: "INTERNAL_ERROR",
    500001: "FAILURE",
    500002: "GE_FAILURE: the graph engine failed",
    500003: "RT_FAILURE: the runtime failed",
    500004: "DRV_FAILURE: the driver failed",
    107000: "RT_PARAM_INVALID: an argument is wrong",
    107001: "RT_INVALID_DEVICEID: no such device, or the driver is not loaded",
    107002: "RT_CONTEXT_NULL: no context is bound to this thread",
    107003: "RT_STREAM_CONTEXT: the stream is of another context",
    107004: "RT_MODEL_CONTEXT: the model is of another context",
    107008: "RT_ADDR_UNALIGNED",
    107016: "RT_MEMORY_TYPE",
    107017: "RT_INVALID_HANDLE",
    107019: "RT_WAIT_TIMEOUT",
    107020: "RT_TASK_TIMEOUT",
    107022: "RT_DEVICE_TASK_ABORT",
    207000: "RT_FEATURE_NOT_SUPPORT",
    207001: "RT_MEMORY_ALLOCATION: memory could not be allocated",
    207002: "RT_MEMORY_FREE",
    207003: "RT_AICORE_OVER_FLOW: FP16 overflow",
    207004: "RT_NO_DEVICE",
    207005: "RT_RESOURCE_ALLOC_FAIL",
    207006: "RT_NO_PERMISSION",
    207008: "RT_NO_STREAM_RESOURCE: no stream is left",
    207018: "RT_DEVICE_OOM: the device is out of memory",
    507000: "RT_INTERNAL_ERROR",
    507001: "RT_TS_ERROR: the task scheduler failed",
    507002: "RT_STREAM_TASK_FULL: the stream takes no more tasks",
    507007: "RT_CONTEXT_RELEASE_ERROR",
    507008: "RT_SOC_VERSION: the engine is for another chip",
    507009: "RT_TASK_TYPE_NOT_SUPPORT",
    507010: "RT_LOST_HEARTBEAT: the device does not answer",
    507011: "RT_MODEL_EXECUTE: the model failed on the device",
    507012: "RT_REPORT_TIMEOUT",
    507014: "RT_AICORE_TIMEOUT",
    507015: "RT_AICORE_EXCEPTION",
    507017: "RT_AICPU_TIMEOUT",
    507018: "RT_AICPU_EXCEPTION",
    507033: "RT_DEV_SETUP_ERROR: the device cannot be opened",
    507046: "RT_STREAM_SYNC_TIMEOUT",
    507053: "RT_DEVICE_MTE_ERROR: the device's memory failed",
    507899: "RT_DRV_INTERNAL_ERROR",
    507900: "RT_AICPU_INTERNAL_ERROR",
    507901: "RT_SOCKET_CLOSE: the connection to the device closed",
    145000: "GE_PARAM_INVALID: an argument is wrong",
    145001: "GE_EXEC_NOT_INIT",
    145002: "GE_EXEC_MODEL_PATH_INVALID: the engine's path is wrong",
    145003: "GE_EXEC_MODEL_ID_INVALID: there is no such model",
    145006: "GE_EXEC_MODEL_DATA_SIZE_INVALID: the engine has a wrong size",
    145007: "GE_EXEC_MODEL_ADDR_INVALID",
    145009: "GE_EXEC_LOAD_MODEL_REPEATED",
    145013: "GE_DYNAMIC_BATCH_SIZE_INVALID: the batch is none of the engine's",
    145019: "GE_PLGMGR_PATH_INVALID: LD_LIBRARY_PATH is wrong",
    145021: "GE_SHAPE_INVALID",
    145022: "GE_DATATYPE_INVALID",
    245000: "GE_MEMORY_ALLOCATION: memory could not be allocated",
    245001: "GE_MEMORY_OPERATE_FAILED",
    245002: "GE_DEVICE_MEMORY_OPERATE_FAILED",
    545000: "GE_INTERNAL_ERROR",
    545001: "GE_LOAD_MODEL: the engine cannot be loaded",
    545002: "GE_EXEC_LOAD_MODEL_PARTITION_FAILED",
    545003: "GE_EXEC_LOAD_WEIGHT_PARTITION_FAILED",
    545004: "GE_EXEC_LOAD_TASK_PARTITION_FAILED",
    545005: "GE_EXEC_LOAD_KERNEL_PARTITION_FAILED",
    545009: "GE_EXEC_UNLOAD_MODEL",
    545601: "GE_MODEL_EXECUTE_TIMEOUT",
}

_MEMORY = frozenset((200000, 207001, 207018, 245000, 245002))
_ENGINE = frozenset((
    100003, 100005, 100006, 100012, 100013, 100014, 100015, 100016, 145002, 145006, 507008, 507009,
    545001, 545002, 545003, 545004, 545005,
))  # fmt: skip
_DEVICE = frozenset((107001, 200002, 207004, 207006, 507010, 507033, 507053, 507899, 507901))
_COMPUTING = frozenset((207003, 507011, 507014, 507015, 507017, 507018, 545601))
_SETUP = frozenset((100039, 145019, 148049))


def meaning(code: int) -> str:
    """The vendor's name of a status, with what it says in words where the name does not."""
    return MEANINGS.get(code, "a code that is in none of the vendor's tables")


def advice(code: int) -> str:
    """The next step after a status."""
    if code in _MEMORY:
        return "see which process holds the device (npu-smi info), then run a smaller batch"
    if code in _ENGINE:
        return "delete the engine and build it again with the CANN and for the chip that are here (npu-smi info)"
    if code in _DEVICE:
        return "check the card and the driver: npu-smi info, /dev/davinci*, /usr/local/Ascend/driver/version.info"
    if code in _COMPUTING:
        return "run a smaller batch; if it fails too, an operator overflows or is not supported in FP16"
    if code in _SETUP:
        return "open a new shell and: source /usr/local/Ascend/ascend-toolkit/set_env.sh"
    return "see the device log under $HOME/ascend/log; set ASCEND_GLOBAL_LOG_LEVEL=1 and run the case again"


COMPILER_ADVICE = {
    "E10001": "the value named in the message is not one this release of the compiler takes",
    "E10007": "a required flag is missing; is this an older or newer compiler?",
    "E10009": "two kinds of dynamic shape exclude each other",
    "E10011": "a dimension is not positive: give the batch",
    "E10016": "the name of an input or of an output node is not one of the graph's: export the model again",
    "E10018": "only the batch axis may be dynamic",
    "E10031": "no input has a dynamic batch: export the model with one",
    "E10035": "give at least two batch sizes",
    "E10036": "too many batch sizes, or one twice",
    "E10041": "the ONNX file is damaged: export the model again",
    "E10044": "auto tuning needs a device and 2 GB of free memory",
    "E10052": "the AIPP configuration is wrong; it is next to the engine",
    "E10501": "an operator is not registered: is ASCEND_OPP_PATH set? source set_env.sh",
    "E11016": "an output node is not one of the graph's: export the model again",  # as older manuals number it
    "E11017": "an output node has fewer outputs than asked for",
    "E13000": "a path does not exist, or the user has no permission to read it",
    "E13010": "the operator has no parser: install the custom operator package",
    "E13024": "an environment variable is missing: source set_env.sh",
    "E16002": "the operator has no ONNX parser in this release",
    "E16005": "the ONNX file imports two operator sets: replace the operators of the other domain by ONNX's own, "
    "or cut the graph before them",
    "E19010": "the operator has no ONNX parser in this release: export with opset 11, or install the operator package",
    "E19025": "an input has another shape than the graph's",
    "E20001": "an operator, named in the message, cannot be compiled with its arguments: try a static batch",
    **dict.fromkeys(  # by release, oldest first
        ("E40000", "E40020", "EC0010"),
        "a Python module of the compiler is missing: pip install decorator sympy attrs numpy scipy psutil",
    ),
    "EZ0501": "the operator is not known to this release of CANN",
    "EZ3002": "no engine of this chip runs the operator",
    "EZ3003": "no kernel of this chip runs the operator with these types",
    "EZ9010": "the operator has no ONNX parser in this release",
}
