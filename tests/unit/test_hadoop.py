"""What the ranks are told of the driver's Hadoop configuration, and what never leaves it."""

from __future__ import annotations

import pytest

from spark_strategy.spark.hadoop import shareable

HA = {
    "fs.defaultFS": "hdfs://ns1",
    "dfs.nameservices": "ns1,ns2",
    "dfs.ha.namenodes.ns1": "nn1,nn2",
    "dfs.namenode.rpc-address.ns1.nn1": "host-a:8020",
    "dfs.namenode.rpc-address.ns1.nn2": "host-b:8020",
    "dfs.client.failover.proxy.provider.ns1": "org.apache.hadoop.ConfiguredFailoverProxyProvider",
    "dfs.namenode.kerberos.principal": "nn/_HOST@REALM",
    "dfs.client.use.datanode.hostname": "true",
    "dfs.user.home.dir.prefix": "/home",
    "dfs.data.transfer.protection": "privacy",
    "fs.viewfs.mounttable.c.link./data": "hdfs://ns1/data",
    "hadoop.security.authentication": "kerberos",
    "hadoop.rpc.protection": "privacy",
    "ipc.client.connect.timeout": "2000",
}


def test_a_client_gets_all_it_needs_for_name_services() -> None:
    """Name services, NameNodes, how to fail over, principals, mount tables, the default."""
    assert shareable(HA.items()) == HA


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("fs.s3a.access.key", "AKIA"),
        ("fs.s3a.secret.key", "x"),
        ("fs.azure.account.key.a.blob.core.windows.net", "x"),
        ("fs.azure.sas.c.a.blob.core.windows.net", "x"),
        ("fs.gs.auth.service.account.private.key", "x"),
        ("dfs.namenode.keytab.file", "/etc/nn.keytab"),
        ("dfs.client.https.keystore.resource", "ssl-client.xml"),
        ("dfs.client.some.password", "x"),
        ("dfs.client.delegation.token", "x"),
        ("dfs.web.authentication.kerberos.keytab", "/etc/http.keytab"),
        ("hadoop.security.credential.provider.path", "jceks://file/x"),
        ("hadoop.security.group.mapping.ldap.bind.password", "x"),
        ("javax.jdo.option.ConnectionPassword", "x"),
        ("ipc.client.secret", "x"),
        ("fs.viewfs.mounttable.c.link./data", "s3n://KEY:SECRET@bucket/data"),
        ("dfs.datanode.data.dir", "/data"),
        ("yarn.resourcemanager.address", "host:8032"),
    ],
)
def test_no_secret_and_nothing_of_others_is_sent(key: str, value: str) -> None:
    """By an allow-list of keys; whatever looks like a secret is left out besides."""
    assert shareable([(key, value)]) == {}
