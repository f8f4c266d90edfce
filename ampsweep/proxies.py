"""The HTTP proxy that a request to a server goes through, as the environment says: HTTP_PROXY, ALL_PROXY, NO_PROXY.

A loopback address never goes through a proxy, whatever the environment says: a proxy would look for the server on its
own machine, and would see the API key.
"""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is this machine's own, reachable from nowhere else."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def proxy_of(url: str) -> str | None:
    """Return the proxy for a server's URL, without user name and password; None where requests go to it directly."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_loopback(host) or proxy_bypass(host):
        return None
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if proxy is None:
        return None
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
