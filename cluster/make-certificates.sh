#!/usr/bin/env bash
# Certificates for Ray's encryption (RAY_USE_TLS), for a cluster on machines of one's own.
#
#   bash cluster/make-certificates.sh FOLDER ADDRESS [ADDRESS ...]
#
# FOLDER gets an authority of its own (ca.crt; its key is thrown away) and one certificate for all the
# addresses (node.crt, node.key), which also name the machine itself. Put the three files on every
# machine, readable by the user of Ray alone, and set what the last lines say wherever Ray is
# started and wherever its clients run. Valid for a year.
set -euo pipefail
umask 077

if [[ $# -lt 2 ]]; then
  echo "usage: make-certificates.sh FOLDER ADDRESS [ADDRESS ...]" >&2
  exit 2
fi
folder=$1
shift
mkdir -p "$folder"
names="DNS:localhost,IP:127.0.0.1"
for address in "$@"; do
  if [[ $address =~ ^[0-9.]+$|: ]]; then names+=",IP:$address"; else names+=",DNS:$address"; fi
done

openssl req -x509 -newkey rsa:3072 -noenc -days 365 -subj "/CN=d3ke Ray cluster" \
  -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign" \
  -keyout "$folder/ca.key" -out "$folder/ca.crt" 2>/dev/null
openssl req -newkey rsa:3072 -noenc -subj "/CN=ray" \
  -keyout "$folder/node.key" -out "$folder/node.csr" 2>/dev/null
openssl x509 -req -in "$folder/node.csr" -days 365 -CA "$folder/ca.crt" -CAkey "$folder/ca.key" \
  -CAcreateserial -out "$folder/node.crt" \
  -extfile <(printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\n' "$names") 2>/dev/null
rm -f "$folder"/ca.key "$folder"/ca.srl "$folder"/node.csr

folder=$(cd "$folder" && pwd)
echo "RAY_USE_TLS=1"
echo "RAY_TLS_CA_CERT=$folder/ca.crt"
echo "RAY_TLS_SERVER_CERT=$folder/node.crt"
echo "RAY_TLS_SERVER_KEY=$folder/node.key"
