import sys, requests

session = requests.Session()
for method, url in zip(sys.argv[1::2], sys.argv[2::2]):
    try:
        body = "a body" if method == "POST" else None
        answer = session.request(method, url, data=body, timeout=20)
        print(method, url, answer.status_code, len(answer.content), len(answer.headers) > 100, answer.headers.get("x-sha"))
    except requests.RequestException as error:
        print(method, url, "failed")
