# Arguments: curl's option for the version, then methods and URLs; each is asked for twice, over one connection as far as it is kept.
version=$1
shift
while [ $# -gt 0 ]; do
  method=(-X "$1")
  [ "$1" != HEAD ] || method=(-I)
  [ "$1" != POST ] || method=(-d 'a body')
  code=0
  told=$(curl -s "$version" -m 20 "${method[@]}" -w '%{http_code} ' -o "$OUT/first" "$2" -o "$OUT/second" "$2") || code=$?
  [ "$1" != HEAD ] || : >"$OUT/first" >"$OUT/second"
  echo "$1 $2 $told exit $code $(cat "$OUT/first" "$OUT/second" | sha256sum)"
  shift 2
done
