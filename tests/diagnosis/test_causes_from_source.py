"""Causes that could not be had here: the texts as vLLM 0.8 to 0.32, PyTorch, NCCL and the hub's client write them."""

# ruff: noqa: E501 - the lines are quoted as they are printed

from __future__ import annotations

from pathlib import Path

import pytest
from recordings import recordings

from acode_vllm.vocabulary.errors import CODES
from acode_vllm.vocabulary.server_process import LogPlace
from acode_vllm.workers.diagnosis.cause_rule import Weight
from acode_vllm.workers.diagnosis.diagnosis import diagnose
from acode_vllm.workers.diagnosis.log_scan import scan
from acode_vllm.workers.diagnosis.rules import RULES
from acode_vllm.workers.messages.process_messages import ProcessExit

FROM_SOURCE: tuple[tuple[str, str, str], ...] = (
    # row of the table, what the message must contain, the line
    ("attention backend not on this GPU", "cannot run", "RuntimeError: FlashAttention only supports Ampere GPUs or newer."),
    ("attention backend does not fit", "does not fit", "ValueError: Selected backend AttentionBackendEnum.FLASHINFER is not valid for this configuration. Reason: ['compute capability not supported']"),
    ("CPU: memory taken", "Only 13.77 of 17.21 GiB", "ValueError: Available memory on node 0 (13.77/17.21 GiB) on startup is less than desired CPU memory utilization (0.9, 15.49 GiB). On the CPU backend, the `--gpu-memory-utilization` flag controls the fraction"),
    ("no GPU", "built for a GPU", "RuntimeError: Failed to infer device type, please set the environment variable"),
    ("no GPU", "built for a GPU", "RuntimeError: No CUDA GPUs are available"),
    ("no GPU", "built for a GPU", "RuntimeError: Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions before calling NumCudaDevices() that might have already set an error? Error 999: CUDA unknown error"),
    ("driver mismatch", "does not match", "Failed to initialize NVML: Driver/library version mismatch"),
    ("driver mismatch", "does not match", "pynvml.NVMLError_LibRmVersionMismatch: RM has detected an NVML/RM version mismatch."),
    ("driver mismatch", "does not match", "RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 803: system has unsupported display driver / cuda driver combination"),
    ("driver too old", "version 11040", "/x/torch/cuda/__init__.py:174: UserWarning: CUDA initialization: The NVIDIA driver on your system is too old (found version 11040)."),
    ("driver too old", "too old", "RuntimeError: CUDA error: CUDA driver version is insufficient for CUDA runtime version"),
    ("no driver", "no NVIDIA driver", "RuntimeError: Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU"),
    ("fabric manager", "fabric manager", "RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 802: system not yet initialized"),
    ("no such device", "does not have", "RuntimeError: CUDA error: invalid device ordinal"),
    ("device busy", "exclusive", "RuntimeError: CUDA error: CUDA-capable device(s) is/are busy or unavailable"),
    ("no kernel for this device", "no code for this GPU", "RuntimeError: CUDA error: no kernel image is available for execution on the device"),
    ("too few GPUs", "8 GPUs were asked for, and 2 are there", "  Value error, World size (8) is larger than the number of available GPUs (2) in this node. If this is intentional and you are using:"),
    ("too few GPUs in Ray", "Ray has fewer", "ValueError: The number of required GPUs exceeds the total number of available GPUs in the placement group."),
    ("GPU memory taken", "Only 3.21 of 79.11 GiB are free on device cuda:0", "ValueError: Free memory on device cuda:0 (3.21/79.11 GiB) on startup is less than desired GPU memory utilization (0.9, 71.2 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes."),
    ("GPU memory taken", "take 71.20 GiB", "ValueError: Free memory on device (3.21/79.11 GiB) on startup is less than desired GPU memory utilization (0.9, 71.20 GiB)."),
    ("memory moved while it was measured", "while vLLM measured", "AssertionError: Error in memory profiling. Initial free memory 79 GiB, current free memory 80 GiB. This happens when other processes sharing the same container release GPU memory"),
    ("no memory for the KV cache", "leave no memory", "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when initializing the engine."),
    ("context does not fit", "context of 131072 tokens needs 16.00 GiB of KV cache, and 9.50 GiB", "ValueError: To serve at least one request with the models's max seq len (131072), (16.00 GiB KV cache is needed, which is larger than the available KV cache memory (9.50 GiB). Based on the available memory, the estimated maximum model length is 77824. Try increasing `gpu_memory_utilization`"),
    ("context does not fit at all", "max seq len (32768)", "ValueError: The model's max seq len (32768) is larger than the maximum number of tokens that can be stored in KV cache (12000). Try increasing `gpu_memory_utilization`"),
    ("context does not fit at all", "131072", "ValueError: To serve at least one request with the models's max seq len (131072), (16.0 GiB KV cache is needed, which is larger than the available KV cache memory (0.1 GiB). Try increasing"),
    ("out of GPU memory", "it had 12.06 MiB of 23.69 GiB free, and vLLM needed 20.00 MiB more", "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 23.69 GiB of which 12.06 MiB is free."),
    ("out of GPU memory", "needed 112.00 MiB more", "torch.cuda.OutOfMemoryError: HIP out of memory. Tried to allocate 112.00 MiB. GPU 0 has a total capacty of 63.98 GiB of which 90.00 MiB is free."),
    ("out of GPU memory, no numbers", "ran out", "RuntimeError: CUDA out of memory occurred when warming up sampler with 1024 dummy requests. Please try lowering `max_num_seqs`"),
    ("out of GPU memory, no numbers", "ran out", "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ("too many sequences", "fewer blocks", "ValueError: max_num_seqs (1024) exceeds available Mamba cache blocks (200). Each decode sequence requires one"),
    ("broken hardware", "hardware error", "RuntimeError: CUDA error: uncorrectable ECC error encountered"),
    ("GPU program failed", "illegal memory access", "RuntimeError: CUDA error: an illegal memory access was encountered"),
    ("GPUs cannot talk", "could not communicate", "RuntimeError: NCCL error: unhandled system error (run with NCCL_DEBUG=INFO for details)"),
    ("GPUs cannot talk", "could not communicate", "torch.distributed.DistBackendError: NCCL error in: ../torch/csrc/distributed/c10d/NCCLUtils.hpp:268, unhandled cuda error"),
    ("CUDA error", "reported an error", "RuntimeError: CUDA error: operation not supported"),
    ("NVML", "does not answer", "pynvml.NVMLError_Unknown: Unknown Error"),
    ("gated, no permission", "not been given access", "huggingface_hub.errors.GatedRepoError: 403 Client Error. (Request ID: Root=1-66)"),
    ("gated, no token", "is gated", "huggingface_hub.utils._errors.GatedRepoError: 401 Client Error. (Request ID: Root=1-66)"),
    ("gated", "is gated", "OSError: You are trying to access a gated repo."),
    ("not found or private (401)", "401", "huggingface_hub.errors.RepositoryNotFoundError: 401 Client Error. (Request ID: Root=1-67)"),
    ("not found (404)", "404", "huggingface_hub.errors.RepositoryNotFoundError: 404 Client Error. (Request ID: Root=1-67)"),
    ("not an identifier", "not found on Hugging Face", "OSError: acode/m is not a local folder and is not a valid model identifier listed on 'https://huggingface.co/models'"),
    ("no such revision", "no such revision", "huggingface_hub.errors.RevisionNotFoundError: 404 Client Error."),
    ("disabled", "disabled", "huggingface_hub.errors.DisabledRepoError: 403 Client Error."),
    ("token refused", "refused the token", "huggingface_hub.errors.LocalTokenNotFoundError: Token is required (`token=True`), but no token found."),
    ("token lacks permission", "no permission", "huggingface_hub.errors.HfHubHTTPError: 403 Forbidden: Please enable access to public gated repositories in your fine-grained token settings"),
    ("too many requests", "429", "huggingface_hub.errors.HfHubHTTPError: 429 Client Error: Too Many Requests for url: https://huggingface.co/api"),
    ("hub out of order", "503", "huggingface_hub.errors.HfHubHTTPError: 503 Server Error: Service Temporarily Unavailable for url: https://huggingface.co"),
    ("hub out of order", "502", "huggingface_hub.errors.HfHubHTTPError: Server error '502 Bad Gateway' for url 'https://huggingface.co'"),
    ("certificate", "not trusted", "requests.exceptions.SSLError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate"),
    ("proxy", "proxy", "requests.exceptions.ProxyError: HTTPSConnectionPool(host='huggingface.co', port=443): Unable to connect to proxy"),
    ("offline, not cached", "switched off", "huggingface_hub.errors.OfflineModeIsEnabled: Cannot reach https://huggingface.co/acode/m: offline mode is enabled."),
    ("hub unreachable", "cannot be reached", "OSError: We couldn't connect to 'https://huggingface.co' to load the files, and couldn't find them in the cached files."),
    ("download cut", "broke off", "urllib3.exceptions.ProtocolError: ('Connection broken: IncompleteRead(1 bytes read, 2 more expected)')"),
    ("file missing on the hub", "adapter_model.bin", "OSError: acode/m does not appear to have a file named adapter_model.bin. Checkout"),
    ("connection failed", "connection failed", "requests.exceptions.ConnectionError: ('Connection aborted.', RemoteDisconnected('Remote end closed'))"),
    ("unauthorized", "401", "requests.exceptions.HTTPError: 401 Client Error: Unauthorized for url: https://huggingface.co/acode/m"),
    ("context longer than the model's", "8192 is more than the model's own context of 4096", "ValueError: User-specified max_model_len (8192) is greater than the derived max_model_len (max_position_embeddings=4096 or model_max_length=None in model's config.json)."),
    ("architecture not supported", "['MadeUpForCausalLM']", "ValueError: Model architectures ['MadeUpForCausalLM'] failed to be inspected. Please check the logs for more details."),
    ("architecture gone", "no longer supports", "ValueError: Model architecture X was supported in vLLM until v0.10.2, and is not supported anymore."),
    ("needs its own code", "own Python code", "RuntimeError: Failed to load the model config. If the model is a custom model not yet available in the HuggingFace transformers library, consider setting `trust_remote_code=True` in LLM"),
    ("needs its own code", "own Python code", "ValueError: Loading acode/m requires you to execute the configuration file in that repo on your local machine."),
    ("no config.json", "no config.json", "OSError: acode/m does not appear to have a file named config.json. Checkout 'https://huggingface.co/acode/m/tree/main'"),
    ("config.json is damaged", "config.json", "ValueError: Unrecognized model in acode/m. Should have a `model_type` key in its config.json, or contain one of the following strings"),
    ("weights are damaged", "damaged or incomplete", "safetensors_rust.SafetensorError: Error while deserializing header: HeaderTooLarge"),
    ("weights are damaged", "damaged or incomplete", "safetensors_rust.SafetensorError: Error while deserializing header: InvalidHeaderDeserialization"),
    ("weights are damaged", "damaged or incomplete", "_pickle.UnpicklingError: invalid load key, 'v'."),
    ("weights are damaged", "damaged or incomplete", "RuntimeError: PytorchStreamReader failed reading zip archive: failed finding central directory"),
    ("weights are missing", "model-00002", "FileNotFoundError: [Errno 2] No such file or directory: '/m/model-00002-of-00002.safetensors'"),
    ("weights do not fit", "do not fit", "ValueError: There is no module or parameter named 'lm_head2' in LlamaForCausalLM"),
    ("weights do not fit", "do not fit", "AssertionError: Attempted to load weight (torch.Size([8, 128])) into parameter (torch.Size([16, 128]))"),
    ("no tokenizer", "tokenizer", "OSError: Can't load tokenizer for 'acode/m'. If you were trying to load it from 'https://huggingface.co/models'"),
    ("tokenizer class unknown", "NewTokenizer", "ValueError: Tokenizer class NewTokenizer does not exist or is not currently imported."),
    ("quantization needs its config", "not quantized", "ValueError: Cannot find the config file for awq"),
    ("quantization needs a newer GPU", "which needs 8.0", "ValueError: The quantization method marlin is not supported for the current GPU. Minimum capability: 80. Current capability: 75."),
    ("quantization needs a newer GPU", "compute capability 8.9", "ValueError: The quantization method modelopt_fp4 is not supported for the current GPU. Minimum capability: 100. Current capability: 89."),
    ("quantization not on this device", "awq", "ValueError: awq quantization is currently not supported in rocm."),
    ("unknown weight", "does not expect", "KeyError: 'layers.0.mlp.experts.w13_weight_scale'"),
    ("bfloat16 not on this device", "too old for bfloat16", "ValueError: Bfloat16 is only supported on GPUs with compute capability of at least 8.0. Your Tesla T4 GPU has compute capability 7.5."),
    ("dtype does not fit", "dtype", "ValueError: torch.bfloat16 is not supported for quantization method awq. Supported dtypes: [torch.float16]"),
    ("heads not divisible", "40 attention heads, which 3 devices", "ValueError: Total number of attention heads (40) must be divisible by tensor parallel size (3)."),
    ("not divisible", "divided evenly", "AssertionError: 151655 is not divisible by 2"),
    ("not divisible", "divided evenly", "ValueError: tp_size=8 must be divisible by dcp_size=3."),
    ("no pipeline parallelism", "pipeline parallelism", "NotImplementedError: Pipeline parallelism is not supported for this model. Supported models implement the `SupportsPP` interface."),
    ("does not generate text", "generates no text", "  Value error, This model does not support `--runner generate`. [type=value_error]"),
    ("chat template", "/x.jinja", "ValueError: The supplied chat template (/x.jinja) looks like a file path, but it failed to be opened. Reason: [Errno 2]"),
    ("damaged JSON", "JSON", "json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)"),
    ("unknown parser", "no reasoning parser called deepseek_r2", "KeyError: 'invalid reasoning parser: deepseek_r2 (chose from { deepseek_r1,qwen3 })'"),
    ("unknown reasoning parser", "no parser called qwen4", "KeyError: \"Reasoning parser 'qwen4' not found. Available parsers: deepseek_r1, qwen3\""),
    ("option needs another", "requires `--otlp-traces-endpoint`", "  Value error, ValueError: collect_detailed_traces requires `--otlp-traces-endpoint` to be set."),
    ("unknown argument", "--swap-spacee 4", "vllm: error: unrecognized arguments: --swap-spacee 4"),
    ("bad argument", "expected one argument", "vllm serve: error: argument --port: expected one argument"),
    ("port taken", "Port 8000", "ERROR:    [Errno 98] error while attempting to bind on address ('0.0.0.0', 8000): address already in use"),
    ("internal port taken", "own processes", "torch.distributed.DistNetworkError: The server socket has failed to listen on any local network address. port: 29500, useIpv6: 0, code: -98, name: EADDRINUSE, message: address already in use"),
    ("internal port taken", "own processes", "zmq.error.ZMQError: Address already in use (addr='tcp://127.0.0.1:5555')"),
    ("disk full", "disk is full", "OSError: [Errno 28] No space left on device: '/home/u/.cache/huggingface/hub/x.incomplete'"),
    ("disk full", "disk is full", "RuntimeError: Data processing error: CAS service error : IO Error: No space left on device (os error 28)"),
    ("shared memory full", "/dev/shm", "OSError: [Errno 28] No space left on device: '/psm_0a1b' in /dev/shm"),
    ("shared memory full", "/dev/shm", "RuntimeError: unable to open shared memory object </torch_4_2> in read-write mode: No space left on device (28)"),
    ("out of main memory", "main memory", "RuntimeError: [enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 8589934592 bytes. Error code 12"),
    ("permission denied", "/models/x", "PermissionError: [Errno 13] Permission denied: '/models/x'"),
    ("permission denied", "hub", "OSError: PermissionError at /hub/models--a when downloading acode/m. Check cache directory permissions."),
    ("too many open files", "open files", "OSError: [Errno 24] Too many open files"),
    ("no more threads", "limit of threads", "RuntimeError: can't start new thread"),
    ("vLLM is not installed", "has no vLLM", "/usr/bin/python3: No module named vllm"),
    ("vLLM is not installed", "has no vLLM", "ModuleNotFoundError: No module named 'vllm'"),
    ("library missing", "libcudart.so.12", "ImportError: libcudart.so.12: cannot open shared object file: No such file or directory"),
    ("library missing", "undefined symbol", "ImportError: /x/vllm/_C.abi3.so: undefined symbol: _ZN3c104cuda9SetDeviceEi"),
    ("system library too old", "need GLIBC_2.32", "ImportError: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.32' not found (required by /x/vllm/_C.abi3.so)"),
    ("libraries do not fit", "do not fit each other", "AttributeError: module 'transformers' has no attribute 'AutoModelForVision2Seq'"),
    ("package missing", "not installed", "ImportError: Arctic Inference is required for suffix decoding. Install via `pip install arctic-inference==0.1.1`."),
    ("optional part missing", "vllm[fastsafetensors]", "ImportError: Please install vllm[fastsafetensors] for fastsafetensors support."),
    ("torchvision does not fit", "torchvision", "RuntimeError: operator torchvision::nms does not exist"),
    ("package metadata missing", "for vllm", "importlib.metadata.PackageNotFoundError: No package metadata was found for vllm"),
    ("compiler missing", "C compiler", "RuntimeError: Failed to find C compiler. Please specify via CC environment variable or set triton.knobs.build.impl."),
    ("compiler missing", "Python.h", "/tmp/x/main.c:5:10: fatal error: Python.h: No such file or directory"),
    ("module missing", "flash_attn", "ModuleNotFoundError: No module named 'flash_attn'"),
    ("libraries do not fit", "cannot import name", "ImportError: cannot import name 'X' from 'transformers' (/x/transformers/__init__.py)"),
    ("stuck step", "took too long", "TimeoutError: RPC call to execute_model timed out."),
    ("batch smaller than the context", "2048", "ValueError: max_num_batched_tokens (2048) is smaller than max_model_len (4096). This effectively limits"),
    ("compilation failed", "could not compile", "torch._dynamo.exc.BackendCompilerFailed: backend='VllmBackend' raised:"),
)  # fmt: skip

BEFORE = (
    "(APIServer pid=9) WARNING 11-22 12:30:11 [system_utils.py:255] fd limit errors like `OSError: [Errno 24] Too many\n"
    "INFO 05-01 10:00:00 [__init__.py:239] Automatically detected platform cuda.\n"
    "Traceback (most recent call last):\n"
    '  File "/x/vllm/v1/engine/core.py", line 387, in run_engine_core\n'
    "    raise ValueError(\n"
)
AFTER = (
    "(EngineCore_DP0 pid=8) ERROR 05-01 10:00:00 [core.py:387] EngineCore failed to start.\n"
    "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore_DP0': 1}\n"
    "nanobind: leaked 4 instances!\n"
)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "vllm.log"


@pytest.mark.parametrize(
    ("name", "says", "line"), FROM_SOURCE, ids=[f"{n}-{i}" for i, (n, _, _) in enumerate(FROM_SOURCE)]
)
def test_the_cause_is_found_among_noise_with_and_without_the_loggers_header(
    log: Path, name: str, says: str, line: str
) -> None:
    printed_before_there_is_a_log = "Error" not in line or line.startswith(("ERROR", "/"))
    for header in (
        ("",) if printed_before_there_is_a_log else ("", "(EngineCore_DP0 pid=8) ERROR 05-01 10:00:00 [core.py:387] ")
    ):
        log.write_text(BEFORE + header + line + "\n" + AFTER)
        found = scan(log, LogPlace())
        assert found.cause is not None
        assert found.cause.rule.name == name
        problem = diagnose(log, LogPlace(), ProcessExit(code=1), model="acode/m", port=8000)
        assert problem.code == found.cause.rule.code
        assert says in problem.message
        assert problem.evidence[0].startswith(line[:50].strip())


@pytest.mark.spec("FR-046", "AC-038", "ACODE-VLM-001")
def test_without_a_gpu_the_commands_that_show_it_are_suggested(log: Path) -> None:
    log.write_text(BEFORE + "RuntimeError: No CUDA GPUs are available\n" + AFTER)
    problem = diagnose(log, LogPlace(), ProcessExit(code=1), model="acode/m", port=8000)
    assert problem.code == "ACODE-VLM-001"
    assert "nvidia-smi" in problem.remedy
    assert "rocm-smi" in problem.remedy


@pytest.mark.spec("ACODE-VLM-006")
def test_without_memory_a_smaller_model_is_suggested(log: Path) -> None:
    log.write_text(BEFORE + "torch.OutOfMemoryError: CUDA out of memory.\n" + AFTER)
    problem = diagnose(log, LogPlace(), ProcessExit(code=1), model="acode/m", port=8000)
    assert problem.code == "ACODE-VLM-006"
    assert "smaller" in problem.remedy


def test_every_row_of_the_table_is_proved_by_a_recording_or_a_text() -> None:
    proved = {name for name, _, _ in FROM_SOURCE}
    for recording in recordings().values():
        found = scan(recording.path, LogPlace())
        if found.cause is not None:
            proved.add(found.cause.rule.name)
    assert {rule.name for rule in RULES} - proved == set()


def test_the_rows_have_names_of_their_own_codes_that_exist_and_texts_that_can_be_filled() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
    common = dict.fromkeys(("model", "link", "port", "line", "more", "nearest"), "x")
    for rule in RULES:
        assert rule.code in CODES
        groups = dict.fromkeys(rule.pattern.groupindex, "x") if rule.pattern else {}
        assert rule.cause.format_map(common | groups)
        assert rule.remedy.format_map(common | groups)


def test_a_vague_row_never_hides_a_specific_one_on_the_same_line() -> None:
    first_vague = {needle: i for i, rule in enumerate(RULES) if rule.weight is Weight.VAGUE for needle in rule.needles}
    for place, rule in enumerate(RULES):
        if rule.weight is Weight.SPECIFIC:
            for needle in rule.needles:
                assert not [vague for vague, before in first_vague.items() if before < place and vague in needle]
