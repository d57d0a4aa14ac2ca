"""What Python's usual HTTP clients make of the doors: URL. Prints what each got."""

import asyncio
import json
import os
import ssl
import sys

import httpx
import requests
import websockets

base = sys.argv[1]
headers = {"x-api-key": os.environ["ANTHROPIC_API_KEY"]}
trust = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])


def through_httpx(http2):
    with httpx.Client(http2=http2, verify=trust) as client:
        answer = client.get(base + f"python/httpx{http2}", headers=headers)
        answer.raise_for_status()
        return f"{answer.http_version} {answer.text}"


async def through_a_websocket():
    url = base.replace("https://", "wss://") + "python/socket"
    async with websockets.connect(url, ssl=trust, additional_headers=headers, close_timeout=1) as socket:
        greeting = await socket.recv()
        await socket.send("an honest message")
        return greeting


answer = requests.get(base + "python/requests", headers=headers, timeout=20)
answer.raise_for_status()
print(json.dumps({
    "requests": answer.text,
    "httpx": through_httpx(False),
    "httpx2": through_httpx(True),
    "websockets": asyncio.run(through_a_websocket()),
}))
