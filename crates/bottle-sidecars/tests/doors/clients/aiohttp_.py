import asyncio, os, ssl, sys, aiohttp


async def main():
    trust = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
    async with aiohttp.ClientSession(trust_env=True, max_field_size=65536, timeout=aiohttp.ClientTimeout(20)) as session:
        for method, url in zip(sys.argv[1::2], sys.argv[2::2]):
            try:
                body = "a body" if method == "POST" else None
                async with session.request(method, url, data=body, ssl=trust) as answer:
                    content = await answer.read()
                    print(method, url, answer.status, len(content), len(answer.headers) > 100, answer.headers.get("x-sha"))
            except aiohttp.ClientError:
                print(method, url, "failed")


asyncio.run(main())
