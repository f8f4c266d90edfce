"""Which HTTP proxy requests to a server use, by HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY.

Requests to a loopback address never use a proxy, whatever the environment says: the proxy would connect to its own
machine, and would see the API key.
"""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass


def is_loopback(host: str) -> bool:
    """Return whether a host is `localhost` or a loopback address."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def proxy_of(url: str) -> str | None:
    """Return the proxy for a URL, without user name and password, or None if requests go directly to the server."""
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
