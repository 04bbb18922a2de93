"""What the service does next, and the worker that carries it out: starts, restarts, switches, stops, records.

Decisions are pure; the `LifecycleWorker` and the `Engine` carry them out.

May import: acode_vllm.vocabulary, acode_vllm.supervisor, acode_vllm.workers.messages, acode_vllm.workers.machine,
    acode_vllm.workers.gpu, acode_vllm.workers.vllm, acode_vllm.workers.process.
"""
