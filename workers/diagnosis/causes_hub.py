"""Causes at the model hub: no such model, no permission, no connection (FR-013, FR-025)."""

from __future__ import annotations

import re

from acode_vllm.workers.diagnosis.cause_rule import CauseRule, Weight

CHECK_ID = "Check the model ID at {link}."
SET_TOKEN = (
    "Set the environment variable HF_TOKEN to a token that may read it (https://huggingface.co/settings/tokens)."  # noqa: S105 - no token
)

RULES: tuple[CauseRule, ...] = (
    CauseRule(
        "gated, no permission",
        "ACODE-VLM-003",
        ("GatedRepoError: 403",),
        "The model {model} is gated, and the account of HF_TOKEN has not been given access to it (403).",
        "Accept its terms at {link} with the account that the token belongs to, and wait for the approval.",
    ),
    CauseRule(
        "gated, no token",
        "ACODE-VLM-003",
        ("GatedRepoError: 401",),
        "The model {model} is gated: the hub wants to know who asks (401).",
        "Accept its terms at {link}. " + SET_TOKEN,
    ),
    CauseRule(
        "gated",
        "ACODE-VLM-003",
        ("Cannot access gated repo", "trying to access a gated repo", "is a gated repository"),
        "The model {model} is gated, and the hub refused access to it.",
        "Accept its terms at {link}. " + SET_TOKEN,
        weight=Weight.VAGUE,
    ),
    CauseRule(
        "not found or private (401)",
        "ACODE-VLM-003",
        ("RepositoryNotFoundError: 401",),
        "The hub answered 401 for {model}: it is private, or it does not exist. Without a token the hub does not say.",
        CHECK_ID + " If it is private: " + SET_TOKEN[0].lower() + SET_TOKEN[1:],
    ),
    CauseRule(
        "not found (404)",
        "ACODE-VLM-002",
        ("RepositoryNotFoundError: 404", "Repository Not Found for url"),
        "The model {model} was not found on Hugging Face (404).",
        CHECK_ID + " A private model is visible only with a token that may read it.",
        re.compile(r"RepositoryNotFoundError: 404|Repository Not Found"),
    ),
    CauseRule(
        "not an identifier",
        "ACODE-VLM-002",
        ("is not a valid model identifier", "is not a local folder or a valid repository name"),
        "The model {model} was not found on Hugging Face, and there is no such folder on this machine.",
        CHECK_ID,
        weight=Weight.VAGUE,
    ),
    CauseRule(
        "no such folder",
        "ACODE-VLM-025",
        ("Repo id must be in the form", "Repo id must use alphanumeric"),
        "The model {model} is neither a folder on this machine nor a model ID of the hub.",
        "Check the path, or give a model ID like org/model-name.",
    ),
    CauseRule(
        "no such revision",
        "ACODE-VLM-010",
        ("RevisionNotFoundError", "is not a valid git identifier"),
        "The model {model} has no such revision: {line}",
        "See {link}/commits for its revisions.",
    ),
    CauseRule(
        "disabled",
        "ACODE-VLM-025",
        ("DisabledRepoError",),
        "The hub has disabled the model {model}.",
        "See {link} for the reason, and use another model.",
    ),
    CauseRule(
        "token refused",
        "ACODE-VLM-003",
        ("HfHubHTTPError: Client error '401", "HfHubHTTPError: 401", "Invalid user token", "LocalTokenNotFoundError"),
        "The hub refused the token in HF_TOKEN (401).",
        "Set HF_TOKEN to a valid token (https://huggingface.co/settings/tokens), or unset it for a public model.",
    ),
    CauseRule(
        "token lacks permission",
        "ACODE-VLM-003",
        ("HfHubHTTPError: Client error '403", "HfHubHTTPError: 403"),
        "The token in HF_TOKEN has no permission to read {model} (403).",
        "Give the token read access to it at https://huggingface.co/settings/tokens, or accept the terms at {link}.",
    ),
    CauseRule(
        "too many requests",
        "ACODE-VLM-013",
        ("Client error '429", "429 Client Error", "429 Too Many Requests"),
        "The hub limits the requests from here at the moment (429).",
        "Wait a few minutes. A token in HF_TOKEN raises the limit.",
        re.compile("rror"),
    ),
    CauseRule(
        "hub out of order",
        "ACODE-VLM-013",
        ("Server error '5", "Server Error: "),
        "The hub has an internal error: {line}",
        "Try again later, or pre-stage the model.",
        re.compile(r"Server error '5\d\d|\b5\d\d Server Error: "),
    ),
    CauseRule(
        "certificate",
        "ACODE-VLM-013",
        ("CERTIFICATE_VERIFY_FAILED",),
        "The hub's certificate is not trusted here. A proxy that inspects encrypted connections is the usual reason.",
        "Set SSL_CERT_FILE and REQUESTS_CA_BUNDLE to the proxy's certificate in providers.vllm.env.",
    ),
    CauseRule(
        "proxy",
        "ACODE-VLM-013",
        ("ProxyError",),
        "The proxy between here and the hub failed: {line}",
        "Check HTTPS_PROXY and NO_PROXY.",
    ),
    CauseRule(
        "offline, not cached",
        "ACODE-VLM-007",
        ("outgoing traffic has been disabled", "OfflineModeIsEnabled"),
        "The model {model} is not in the local cache, and access to the hub is switched off.",
        "Pre-stage it on a machine with access (acode providers pull-model vllm {model}), or leave airgapped mode and "
        "unset HF_HUB_OFFLINE.",
    ),
    CauseRule(
        "hub unreachable",
        "ACODE-VLM-013",
        (
            "We couldn't connect to",
            "cannot find the requested files in the local cache",
            "cannot find the requested files in the disk cache",
        ),
        "The model hub cannot be reached, and the model {model} is not in the local cache.",
        "Check the network and HF_ENDPOINT, or pre-stage the model: acode providers pull-model vllm {model}",
    ),
    CauseRule(
        "download cut",
        "ACODE-VLM-013",
        (
            "IncompleteRead",
            "ChunkedEncodingError",
            "peer closed connection",
            "Consistency check failed",
            "Connection broken",
        ),
        "The download of {model} broke off: {line}",
        "Fetch it with: acode providers pull-model vllm {model}, which continues where it broke off. Then start again.",
    ),
    CauseRule(
        "file missing on the hub",
        "ACODE-VLM-025",
        ("does not appear to have a file named", "does not appear to have files named"),
        "The model {model} lacks a file that vLLM needs: {line}",
        "Check its files at {link}: it may be an adapter, or in a format that vLLM does not load.",
        re.compile(r"named (?!config\.json)"),
    ),
    CauseRule(
        "connection failed",
        "ACODE-VLM-013",
        (
            "NameResolutionError",
            "name resolution",
            "Name or service not known",
            "ConnectTimeout",
            "ReadTimeout",
            "MaxRetryError",
            "ConnectError",
            "requests.exceptions.ConnectionError",
        ),
        "A connection failed, most likely to the model hub: {line}",
        "Check the network and HF_ENDPOINT, or pre-stage the model.",
        weight=Weight.VAGUE,
    ),
    CauseRule(
        "unauthorized",
        "ACODE-VLM-003",
        ("401 Unauthorized", "401 Client Error", "403 Forbidden", "403 Client Error"),
        "The hub refused access to {model}: {line}",
        CHECK_ID + " " + SET_TOKEN,
        re.compile("rror"),
        Weight.VAGUE,
    ),
)
