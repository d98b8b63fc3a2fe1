#!/bin/sh
# Run once by Postgres' own image, when the cluster is new: a database and an owner for each of the two servers.
set -eu
for server in mlflow prefect; do
    case $server in
        mlflow) password=$MLFLOW_DATABASE_PASSWORD ;;
        prefect) password=$PREFECT_DATABASE_PASSWORD ;;
    esac
    psql --username postgres --set ON_ERROR_STOP=1 --set owner="$server" --set password="$password" <<'SQL'
CREATE ROLE :"owner" LOGIN PASSWORD :'password';
CREATE DATABASE :"owner" OWNER :"owner";
REVOKE ALL ON DATABASE :"owner" FROM PUBLIC;
SQL
done
