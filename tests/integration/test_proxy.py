"""Who a request comes from when it comes through a proxy."""

from __future__ import annotations

from tests.integration.conftest import StartStack
from tests.integration.test_siblings import huibo


async def test_only_a_trusted_proxy_is_believed(own: StartStack) -> None:
    for trusted, code in (([], "0"), (["127.0.0.1"], "-403")):
        stack, customer = await own({"http": {"trusted_proxies": trusted}})
        url = f"{customer.base_url}/201511v3/getCallerDisplayList?id=demo"
        headers = {"X-Forwarded-For": "203.0.113.9"}
        async with customer.http.post(url, json={"appId": "demo"}, headers=headers) as answer:
            assert (await answer.json(content_type=None))["errorCode"] == code
        await huibo(stack, "app", "set", "demo", "allow-ip=203.0.113.0/24")
        async with customer.http.post(url, json={"appId": "demo"}, headers=headers) as answer:
            assert (await answer.json(content_type=None))["errorCode"] == ("-403" if code == "0" else "0")
