# The Python client as programs use it: watch and its resumption, patches, custom resources by the dynamic client, exec and
# logs. Arguments: the kubeconfig, and whether the pod `talk` runs.
import sys
import threading
import time

from kubernetes import client, config, dynamic, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import portforward, stream

config.load_kube_config(sys.argv[1])
with_pod = len(sys.argv) > 2
api = client.CoreV1Api()


def config_map(name, data=None, labels=None):
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name, labels=labels), data=data)


def refused(code, work, *args, **more):
    try:
        work(*args, **more)
    except ApiException as error:
        assert error.status == code, error
        return error
    raise AssertionError(f"not refused with {code}")


def watches():
    seen = []

    def follow():
        for event in watch.Watch().stream(api.list_namespaced_config_map, "default", timeout_seconds=10):
            seen.append((event["type"], event["object"].metadata.name))
            if ("DELETED", "watched") in seen:
                return

    thread = threading.Thread(target=follow)
    thread.start()
    time.sleep(0.5)
    api.create_namespaced_config_map("default", config_map("watched", {"a": "1"}))
    api.patch_namespaced_config_map("watched", "default", {"data": {"a": "2"}})
    api.delete_namespaced_config_map("watched", "default")
    thread.join(15)
    own = [kind for kind, name in seen if name == "watched"]
    assert own == ["ADDED", "MODIFIED", "DELETED"], seen


def resumes():
    start = api.list_namespaced_config_map("default").metadata.resource_version
    for i in range(5):
        api.create_namespaced_config_map("default", config_map(f"resumed-{i}", labels={"set": "resumed"}))
    seen = []
    # Each watch takes one event, and the next begins behind it.
    for _ in range(5):
        watching = watch.Watch()
        events = watching.stream(api.list_namespaced_config_map, "default", resource_version=start,
                                 label_selector="set=resumed", timeout_seconds=5)
        for event in events:
            seen.append((event["type"], event["object"].metadata.name))
            start = event["object"].metadata.resource_version
            watching.stop()
    assert seen == [("ADDED", f"resumed-{i}") for i in range(5)], seen
    # The client's own way to go on: one stream over several watches that end.
    watching = watch.Watch()
    count = sum(1 for _ in watching.stream(api.list_namespaced_config_map, "default", label_selector="set=resumed",
                                           timeout_seconds=1))
    assert count == 5, count
    api.delete_collection_namespaced_config_map("default", label_selector="set=resumed")
    assert not api.list_namespaced_config_map("default", label_selector="set=resumed").items


def pages():
    for i in range(5):
        api.create_namespaced_config_map("default", config_map(f"page-{i}", labels={"set": "pages"}))
    names, token = [], None
    while True:
        page = api.list_namespaced_config_map("default", label_selector="set=pages", limit=2, _continue=token)
        names += [item.metadata.name for item in page.items]
        token = page.metadata._continue
        if not token:
            break
    assert names == [f"page-{i}" for i in range(5)], names


def patches():
    api.create_namespaced_config_map("default", config_map("patched", {"k": "v"}))
    patch = api.patch_namespaced_config_map
    patch("patched", "default", {"data": {"strategic": "1"}})
    # The client takes a list for a JSON patch.
    patch("patched", "default", [{"op": "add", "path": "/data/json", "value": "1"}])
    maps = dynamic.DynamicClient(client.ApiClient()).resources.get(api_version="v1", kind="ConfigMap")
    maps.patch(body={"data": {"merge": "1", "k": None}}, name="patched", namespace="default",
               content_type="application/merge-patch+json")
    data = api.read_namespaced_config_map("patched", "default").data
    assert data == {"merge": "1", "strategic": "1", "json": "1"}, data
    wrong = [{"op": "test", "path": "/data/json", "value": "2"}]
    error = refused(422, patch, "patched", "default", wrong)
    # As upstream, which part did not fit is not told.
    assert "the server rejected our request due to an error in our request" in error.body, error.body


def customs():
    versions = [{
        "name": "v1", "served": True, "storage": True, "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": {
            "type": "object",
            "properties": {
                "spec": {"type": "object", "properties": {"size": {"type": "integer", "default": 3}}},
                "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            },
        }},
    }]
    dyn = dynamic.DynamicClient(client.ApiClient())
    definitions = dyn.resources.get(api_version="apiextensions.k8s.io/v1", kind="CustomResourceDefinition")
    definitions.create({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "ships.python.example.com"},
        "spec": {"group": "python.example.com", "scope": "Namespaced", "versions": versions,
                 "names": {"plural": "ships", "kind": "Ship"}},
    })
    for event in definitions.watch(name="ships.python.example.com", timeout=10):
        conditions = event["object"].to_dict().get("status", {}).get("conditions", [])
        if any(c["type"] == "Established" and c["status"] == "True" for c in conditions):
            break
    dyn.resources.invalidate_cache()
    ships = dyn.resources.get(api_version="python.example.com/v1", kind="Ship")
    made = ships.create({"apiVersion": "python.example.com/v1", "kind": "Ship", "metadata": {"name": "a"}, "spec": {}},
                        namespace="default")
    assert made.spec.size == 3, made
    ships.patch(body={"spec": {"size": 4}}, name="a", namespace="default", content_type="application/merge-patch+json")
    ships.status.patch(body={"status": {"afloat": True}}, name="a", namespace="default",
                       content_type="application/merge-patch+json")
    applied = ships.server_side_apply(
        body={"apiVersion": "python.example.com/v1", "kind": "Ship", "metadata": {"name": "b"}, "spec": {"size": 9}},
        namespace="default", field_manager="python")
    assert applied.metadata.managedFields[0].manager == "python", applied
    shown = {s.metadata.name: s.spec.size for s in ships.get(namespace="default").items}
    assert shown == {"a": 4, "b": 9}, shown
    assert ships.get(name="a", namespace="default").status.afloat is True
    objects = client.CustomObjectsApi()
    objects.delete_namespaced_custom_object("python.example.com", "v1", "default", "ships", "a")
    refused(404, objects.get_namespaced_custom_object, "python.example.com", "v1", "default", "ships", "a")
    definitions.delete(name="ships.python.example.com")


def execs():
    run = api.connect_get_namespaced_pod_exec
    out = stream(run, "talk", "default", command=["sh", "-c", "echo from exec"],
                 stderr=True, stdin=False, stdout=True, tty=False)
    assert out == "from exec\n", repr(out)
    talk = stream(run, "talk", "default", command=["sh", "-c", "while read line; do echo got $line; done; exit 3"],
                  stderr=True, stdin=True, stdout=True, tty=False, _preload_content=False)
    talk.write_stdin("one\n")
    assert talk.readline_stdout(timeout=5) == "got one"
    talk.write_stdin("two\n")
    assert talk.readline_stdout(timeout=5) == "got two"
    talk.close()
    failed = stream(run, "talk", "default", command=["sh", "-c", "exit 3"], stderr=True, stdin=False, stdout=True,
                    tty=False, _preload_content=False)
    failed.run_forever(timeout=5)
    assert failed.returncode == 3, failed.returncode


def logs():
    log = api.read_namespaced_pod_log("talk", "default")
    assert log.startswith("from the log"), repr(log)
    lines = watch.Watch().stream(api.read_namespaced_pod_log, "talk", "default", follow=True)
    assert next(lines) == "from the log"


def forwards():
    forward = portforward(api.connect_get_namespaced_pod_portforward, "talk", "default", ports="8080")
    socket = forward.socket(8080)
    socket.setblocking(True)
    socket.sendall(b"GET / HTTP/1.0\r\n\r\n")
    answer = b""
    while chunk := socket.recv(1024):
        answer += chunk
    socket.close()
    assert answer.endswith(b"hello\n"), answer
    assert forward.error(8080) is None, forward.error(8080)


for step in [watches, resumes, pages, patches, customs] + ([execs, logs, forwards] if with_pod else []):
    began = time.time()
    step()
    print(f"{step.__name__} {(time.time() - began) * 1000:.0f} ms", flush=True)
print("python is content")
