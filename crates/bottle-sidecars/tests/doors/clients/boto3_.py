import os, sys, boto3, botocore.config


class Unseekable:
    """A body whose end is not known, so that it goes in chunks, with its checksum behind it."""

    def __init__(self, left):
        self.left = left

    def read(self, size=-1):
        size = self.left if size < 0 else min(size, self.left)
        self.left -= size
        return b"x" * size


config = botocore.config.Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, read_timeout=20)
client = boto3.client(
    "s3", endpoint_url=sys.argv[1], config=config, region_name="here", aws_access_key_id="none", aws_secret_access_key="none",
    verify=os.environ["SSL_CERT_FILE"],
)
for name, body in [("whole", b"a body"), ("large", b"y" * 300000)]:
    answer = client.put_object(Bucket="open", Key=name, Body=body)["ResponseMetadata"]
    print(name, answer["HTTPStatusCode"], answer["HTTPHeaders"]["x-sha"])
answer = client.put_object(Bucket="open", Key="stream", Body=Unseekable(200000), ContentLength=200000)["ResponseMetadata"]
print("stream", answer["HTTPStatusCode"], answer["HTTPHeaders"]["x-sha"])
