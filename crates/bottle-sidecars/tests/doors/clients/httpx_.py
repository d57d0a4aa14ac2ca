import sys, httpx

VERSION = sys.argv[1]
with httpx.Client(http2=VERSION == "h2", http1=VERSION == "h1", timeout=20) as client:
    for method, url in zip(sys.argv[2::2], sys.argv[3::2]):
        try:
            body = "a body" if method == "POST" else None
            answer = client.request(method, url, content=body)
            print(method, url, answer.status_code, len(answer.content), len(answer.headers) > 100, answer.headers.get("x-sha"))
        except httpx.HTTPError:
            print(method, url, "failed")
