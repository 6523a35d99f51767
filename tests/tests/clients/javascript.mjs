// The JavaScript client as programs use it: objects, informer, watch, apply, exec, attach, log, port-forward. Arguments: the
// kubeconfig, and whether the pod `talk` runs.
import assert from 'node:assert/strict';
import net from 'node:net';
import { PassThrough, Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import * as k8s from '@kubernetes/client-node';

const [kubeconfig, withPod] = process.argv.slice(2);
const kc = new k8s.KubeConfig();
kc.loadFromFile(kubeconfig);
const core = kc.makeApiClient(k8s.CoreV1Api);
const apps = kc.makeApiClient(k8s.AppsV1Api);
const namespace = 'javascript';
const maps = `/api/v1/namespaces/${namespace}/configmaps`;

async function until(what, ask) {
    for (let i = 0; i < 200; i++) {
        const answer = await ask();
        if (answer) return answer;
        await sleep(50);
    }
    throw new Error(`not in time: ${what}`);
}

function map(name, data, labels) {
    return { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace, labels }, data };
}

async function refused(code, work) {
    await assert.rejects(work, (error) => {
        assert.equal(error.code, code, String(error));
        return true;
    });
}

async function objects() {
    await core.createNamespace({ body: { metadata: { name: namespace } } });
    const made = await core.createNamespacedConfigMap({ namespace, body: map('a', { k: 'v' }, { tier: 'x' }) });
    assert.ok(made.metadata.creationTimestamp instanceof Date);
    made.data.k = 'w';
    await core.replaceNamespacedConfigMap({ name: 'a', namespace, body: made });
    await refused(409, core.replaceNamespacedConfigMap({ name: 'a', namespace, body: made }));
    await refused(409, core.createNamespacedConfigMap({ namespace, body: map('a') }));
    const patches = [
        [k8s.PatchStrategy.MergePatch, { data: { merge: '1' } }],
        [k8s.PatchStrategy.StrategicMergePatch, { data: { strategic: '1' } }],
        [k8s.PatchStrategy.JsonPatch, [{ op: 'add', path: '/data/json', value: '1' }]],
    ];
    for (const [strategy, body] of patches) {
        await core.patchNamespacedConfigMap(
            { name: 'a', namespace, body }, k8s.setHeaderOptions('Content-Type', strategy));
    }
    const read = await core.readNamespacedConfigMap({ name: 'a', namespace });
    assert.deepEqual(read.data, { k: 'w', merge: '1', strategic: '1', json: '1' });
    await core.createNamespacedConfigMap({ namespace, body: map('b') });
    const first = await core.listNamespacedConfigMap({ namespace, limit: 1 });
    assert.equal(first.items.length, 1);
    assert.ok(first.metadata.remainingItemCount >= 1);
    const next = await core.listNamespacedConfigMap({ namespace, limit: 100, _continue: first.metadata._continue });
    assert.equal(next.items.length, first.metadata.remainingItemCount);
    const labelled = await core.listNamespacedConfigMap({ namespace, labelSelector: 'tier=x' });
    assert.deepEqual(labelled.items.map((m) => m.metadata.name), ['a']);
    await core.deleteNamespacedConfigMap({ name: 'b', namespace });
    await refused(404, core.readNamespacedConfigMap({ name: 'b', namespace }));
    await refused(422, core.createNamespacedConfigMap({ namespace, body: map('Not_A_Name') }));
}

async function informer() {
    const list = () => core.listNamespacedConfigMap({ namespace, labelSelector: 'seen=yes' });
    const informer = k8s.makeInformer(kc, maps, list, 'seen=yes');
    const seen = [];
    for (const event of ['add', 'update', 'delete']) {
        informer.on(event, (object) => seen.push(`${event} ${object.metadata.name}`));
    }
    informer.on('error', (error) => seen.push(`error ${error}`));
    await core.createNamespacedConfigMap({ namespace, body: map('before', {}, { seen: 'yes' }) });
    await informer.start();
    await until('the first object', () => seen.length === 1);
    await core.createNamespacedConfigMap({ namespace, body: map('during', {}, { seen: 'yes' }) });
    await core.patchNamespacedConfigMap({ name: 'during', namespace, body: { data: { x: 'y' } } },
        k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.MergePatch));
    // It leaves the selector.
    await core.patchNamespacedConfigMap({ name: 'before', namespace, body: { metadata: { labels: { seen: 'no' } } } },
        k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.MergePatch));
    await until('all events', () => seen.length >= 4);
    assert.deepEqual(seen, ['add before', 'add during', 'update during', 'delete before']);
    assert.deepEqual(informer.list().map((m) => m.metadata.name), ['during']);
    await informer.stop();
}

async function watch() {
    const { metadata } = await core.listNamespacedConfigMap({ namespace });
    for (const n of ['1', '2', '3']) {
        await core.createNamespacedConfigMap({ namespace, body: map(`watched-${n}`) });
    }
    let from = metadata.resourceVersion;
    const seen = [];
    // Each watch takes one event and the next goes on behind it.
    while (seen.length < 3) {
        await new Promise((resolve, reject) => {
            let request;
            const event = (type, object) => {
                if (from === object.metadata.resourceVersion || request?.signal.aborted) return;
                from = object.metadata.resourceVersion;
                seen.push(`${type} ${object.metadata.name}`);
                request.abort();
                resolve();
            };
            new k8s.Watch(kc)
                .watch(maps, { resourceVersion: from, allowWatchBookmarks: true }, event, () => {})
                .then((started) => { request = started; }, reject);
        });
    }
    assert.deepEqual(seen, ['ADDED watched-1', 'ADDED watched-2', 'ADDED watched-3']);
}

async function apply() {
    const client = k8s.KubernetesObjectApi.makeApiClient(kc);
    const set = (data, manager, force) => client.patch(map('applied', data), undefined, undefined, manager, force,
        k8s.PatchStrategy.ServerSideApply);
    await set({ a: '1' }, 'one');
    await refused(409, set({ a: '2' }, 'two'));
    const forced = await set({ a: '2' }, 'two', true);
    assert.deepEqual(forced.metadata.managedFields.map((f) => f.manager), ['two']);
    // The same client finds out about kinds that it has no types for.
    const definition = {
        apiVersion: 'apiextensions.k8s.io/v1', kind: 'CustomResourceDefinition',
        metadata: { name: 'boats.example.com' },
        spec: {
            group: 'example.com', scope: 'Namespaced', names: { plural: 'boats', kind: 'Boat' },
            versions: [{
                name: 'v1', served: true, storage: true,
                schema: { openAPIV3Schema: { type: 'object', properties: { spec: {
                    type: 'object', properties: { sails: { type: 'integer' } },
                } } } },
            }],
        },
    };
    await client.create(definition);
    const boat = { apiVersion: 'example.com/v1', kind: 'Boat', metadata: { name: 'b', namespace }, spec: { sails: 2 } };
    await until('boats are served', () => client.create(boat).catch(() => undefined));
    const read = await client.read(boat);
    assert.equal(read.spec.sails, 2);
    const custom = kc.makeApiClient(k8s.CustomObjectsApi);
    const all = await custom.listNamespacedCustomObject(
        { group: 'example.com', version: 'v1', namespace, plural: 'boats' });
    assert.deepEqual(all.items.map((b) => b.metadata.name), ['b']);
    await client.delete(definition);
}

async function workload() {
    const body = {
        metadata: { name: 'web' },
        spec: {
            replicas: 0, selector: { matchLabels: { app: 'web' } },
            template: { metadata: { labels: { app: 'web' } }, spec: { containers: [{ name: 'c', image: 'x' }] } },
        },
    };
    const made = await apps.createNamespacedDeployment({ namespace, body });
    assert.equal(made.spec.strategy.rollingUpdate.maxSurge, '25%');
    const scale = await apps.readNamespacedDeploymentScale({ name: 'web', namespace });
    assert.equal(scale.status.selector, 'app=web');
    await apps.patchNamespacedDeploymentScale({ name: 'web', namespace, body: { spec: { replicas: 1 } } },
        k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.MergePatch));
    const scaled = await apps.readNamespacedDeployment({ name: 'web', namespace });
    assert.equal(scaled.spec.replicas, 1);
    await apps.deleteNamespacedDeployment({ name: 'web', namespace, propagationPolicy: 'Foreground' });
}

function collect(stream) {
    const chunks = [];
    stream.on('data', (chunk) => chunks.push(chunk));
    return () => Buffer.concat(chunks).toString();
}

async function exec() {
    const [out, err] = [new PassThrough(), new PassThrough()];
    const [said, complained] = [collect(out), collect(err)];
    const status = await new Promise((resolve, reject) => {
        const command = ['sh', '-c', 'cat; echo problem >&2; exit 3'];
        new k8s.Exec(kc)
            .exec('default', 'talk', 'main', command, out, err, Readable.from(['typed\n']), false, resolve)
            .catch(reject);
    });
    assert.equal(said(), 'typed\n');
    assert.equal(complained(), 'problem\n');
    assert.equal(status.reason, 'NonZeroExitCode');
    assert.equal(status.details.causes[0].message, '3');
}

async function attach() {
    const out = new PassThrough();
    const said = collect(out);
    const socket = await new k8s.Attach(kc).attach('default', 'talk', 'main', out, null, null, false);
    await until('what the container says', () => said().includes('tick'));
    socket.close();
}

async function log() {
    const out = new PassThrough();
    const said = collect(out);
    const request = await new k8s.Log(kc).log('default', 'talk', 'main', out, { follow: true, timestamps: true });
    await until('lines of the log', () => said().split('\n').length > 3);
    assert.match(said(), /^\d{4}-\d\d-\d\dT[^ ]+Z from the log\n/);
    request.abort();
}

async function forward() {
    const forward = new k8s.PortForward(kc);
    const server = net.createServer((socket) => {
        socket.on('error', () => {});
        forward.portForward('default', 'talk', [8080], socket, null, socket);
    });
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address();
    for (let i = 0; i < 2; i++) {
        const answer = await (await fetch(`http://127.0.0.1:${port}/`, { headers: { connection: 'close' } })).text();
        assert.equal(answer, 'hello\n');
    }
    server.close();
}

const all = [objects, informer, watch, apply, workload];
if (withPod) all.push(exec, attach, log, forward);
for (const step of all) {
    const began = Date.now();
    const limit = sleep(30000, undefined, { ref: false }).then(() => { throw new Error('it hangs'); });
    try {
        await Promise.race([step(), limit]);
    } catch (error) {
        console.log(`${step.name}: ${error.stack}`);
        process.exit(1);
    }
    console.log(`${step.name} ${Date.now() - began} ms`);
}
console.log('javascript is content');
process.exit(0);
