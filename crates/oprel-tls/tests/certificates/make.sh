#!/bin/sh
# Makes the certificates of the tests: an authority, and one of it for localhost. Valid for a hundred years, of no
# use to anybody else: the keys are public.
set -e
cd "$(dirname "$0")"
key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"; }
key authority.key
openssl req -x509 -new -key authority.key -subj "/CN=oprel test authority" -days 36500 -out authority.pem \
    -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign,cRLSign"
key localhost.key
openssl req -new -key localhost.key -subj "/CN=localhost" -out localhost.csr
printf 'subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1\nbasicConstraints=critical,CA:FALSE\nextendedKeyUsage=serverAuth\n' > extensions
openssl x509 -req -in localhost.csr -CA authority.pem -CAkey authority.key -CAcreateserial -days 36500 \
    -extfile extensions -out localhost.pem
rm -f localhost.csr extensions authority.key authority.srl
