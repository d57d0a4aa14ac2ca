"""The official Python SDK as the agent's client: lists every tool, calls every tool, and prints what it got as JSON."""

import asyncio
import json
import sys

from mcp import Client


async def main(url: str, origin: int) -> None:
    told: dict = {"progress": 0, "answers": {}}

    async def progress(done: float, total: float | None, message: str | None) -> None:
        told["progress"] += 1

    async with Client(url, read_timeout_seconds=60) as client:
        told["protocol"] = client.protocol_version
        told["server"] = client.server_info.name
        tools = (await client.list_tools()).tools
        told["tools"] = {tool.name: tool.model_dump(mode="json", by_alias=True) for tool in tools}
        calls = [
            ("policy", {}),
            ("request_route", {"host": "localhost", "port": origin, "scheme": "http", "paths": ["/sdk"], "why": "a test"}),
            ("request_exemption", {"host": "localhost", "rule": "github-pat", "why": "a test", "duration": "5m"}),
            ("request_capability", {"dockerfile": "RUN true", "why": "a test"}),
            ("request_push", {"ref": "refs/heads/sdk", "why": "a test"}),
            ("request_budget", {"tokens": 1000, "why": "a test"}),
            ("ask", {"question": "is this a test?"}),
            ("progress", {"line": "half way"}),
            ("status", {"id": "P1"}),
            ("wait", {"id": "P1"}),
        ]
        for name, arguments in calls:
            result = await client.call_tool(name, arguments, progress_callback=progress)
            told["answers"][name] = {"error": result.is_error, "text": result.content[0].text}
        bad = await client.call_tool("request_route", {"host": "127.0.0.1", "why": "x"})
        told["bad"] = {"error": bad.is_error, "text": bad.content[0].text}
    print(json.dumps(told))


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
