"""Whether there is a network, found out within seconds."""

import queue
import threading

PROBE_SECONDS = 3.0


def reachable(url: str, seconds: float = PROBE_SECONDS) -> bool:
    """Whether ``url`` answers within ``seconds``, name lookup, proxy and TLS included."""
    answer: queue.SimpleQueue[bool] = queue.SimpleQueue()
    # In a thread of its own, since no time limit of a socket covers the name lookup.
    threading.Thread(target=lambda: answer.put(_answers(url, seconds)), daemon=True).start()
    try:
        return answer.get(timeout=seconds)
    except queue.Empty:
        return False


def _answers(url: str, seconds: float) -> bool:
    import requests  # what TFDS downloads with: the same proxies and certificates

    try:
        return requests.head(url, timeout=seconds).ok
    except requests.RequestException:
        return False
