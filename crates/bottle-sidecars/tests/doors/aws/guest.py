"""A guest's boto3 with keys that are none: puts and gets objects, and prints what came back."""

import io, os, sys, boto3, botocore.config, urllib3

url, proxy = sys.argv[1:]
config = botocore.config.Config(
    s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, read_timeout=60, proxies={"https": proxy},
)
client = boto3.client(
    "s3", endpoint_url=url, config=config, region_name="us-west-2", aws_access_key_id="bottle-placeholder-AWS_ACCESS_KEY_ID",
    aws_secret_access_key="bottle-placeholder-AWS_SECRET_ACCESS_KEY", verify=os.environ["SSL_CERT_FILE"],
)


class Unseekable(io.RawIOBase):
    """A body whose checksum can't be known beforehand."""

    def __init__(self, data):
        self.data = io.BytesIO(data)

    def readable(self):
        return True

    def read(self, size=-1):
        return self.data.read(size)


client.create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
for key, body in [("plain", b"a body"), ("odd name/(ä)+~", b"y" * 300_000), ("empty", b"")]:
    client.put_object(Bucket="bucket", Key=key, Body=body, Metadata={"note": "two   spaces"})
    got = client.get_object(Bucket="bucket", Key=key)
    print(key, got["Body"].read() == body, got["Metadata"]["note"])
stream = b"".join(b"line %d\n" % number for number in range(20_000))
client.put_object(Bucket="bucket", Key="stream", Body=Unseekable(stream), ContentLength=len(stream))
print("stream", client.get_object(Bucket="bucket", Key="stream")["Body"].read() == stream)
print("range", client.get_object(Bucket="bucket", Key="stream", Range="bytes=1-3")["Body"].read())
print("list", [one["Key"] for one in client.list_objects_v2(Bucket="bucket", Prefix="")["Contents"]])
part = b"z" * (5 << 20)
upload = client.create_multipart_upload(Bucket="bucket", Key="parts")["UploadId"]
tags = [client.upload_part(Bucket="bucket", Key="parts", UploadId=upload, PartNumber=n, Body=part)["ETag"] for n in (1, 2)]
client.complete_multipart_upload(
    Bucket="bucket", Key="parts", UploadId=upload,
    MultipartUpload={"Parts": [{"PartNumber": n, "ETag": tag} for n, tag in zip((1, 2), tags)]},
)
print("parts", len(client.get_object(Bucket="bucket", Key="parts")["Body"].read()))
client.delete_object(Bucket="bucket", Key="plain")
try:
    client.get_object(Bucket="bucket", Key="plain")
except client.exceptions.NoSuchKey:
    print("deleted")
presigned = client.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "stream"})
pool = urllib3.ProxyManager(proxy, ca_certs=os.environ["SSL_CERT_FILE"])
answer = pool.request("GET", presigned, retries=False)
print("presigned", answer.status, answer.json()["error"])
