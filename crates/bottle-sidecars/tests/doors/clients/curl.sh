# Arguments: curl's option for the version, then methods and URLs; all over one curl, as far as it keeps its connection.
version=$1
shift
while [ $# -gt 0 ]; do
  method=(-X "$1")
  [ "$1" != HEAD ] || method=(-I)
  [ "$1" != POST ] || method=(-d 'a body')
  curl -s "$version" -m 20 "${method[@]}" -o "$OUT/body" -w "$1 $2 %{http_code} " "$2" "$2" >"$OUT/told"
  echo "$(cat "$OUT/told") exit $? $(sha256sum <"$OUT/body")"
  shift 2
done
