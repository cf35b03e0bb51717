"use strict";
// What changes on the node: its denied flows and its health. The agent is asked every two seconds while the page is seen.
{
  const PERIOD = 2000, PATIENCE = 9000;
  const shown = {};
  let newest = null;

  // Whether something is to be drawn: what is drawn again although it is the same loses its selection.
  function differs(part, value) {
    const text = JSON.stringify(value);
    if (shown[part] === text) return false;
    shown[part] = text;
    return true;
  }

  // A text is set only if it differs, because a screen reader says it again otherwise.
  function say(id, text) {
    if (by(id).textContent !== text) by(id).textContent = text;
  }

  const clock = time => time ? time.slice(0, 19).replace("T", " ") + " UTC" : "not yet";

  function fact(name, value) {
    return [element("dt", {}, name), element("dd", {}, value)];
  }

  function check(one) {
    const outcome = one.problem ? `failed: ${one.problem}` : "ok";
    const remarks = one.remarks.length ? ` (${one.remarks.join("; ")})` : "";
    return element("li", { class: one.problem ? "failed" : "passed" },
      element("strong", {}, one.name), ` ${outcome}${remarks}`);
  }

  function policy(one) {
    const reason = one.waitsFor ? `; waits for ${one.waitsFor}` : "";
    return element("li", {}, element("code", {}, `${one.namespace}/${one.name}`), ` is not in force as it is known${reason}`);
  }

  function showHealth(status) {
    const failed = status.checks.filter(one => one.problem).map(one => one.name);
    say("health-summary", status.ready ? `${status.node} is ready: all checks pass.`
      : `${status.node} is not ready: ${failed.join(", ")}.`);
    const counts = status.counts;
    const pending = counts ? `${counts.pendingPolicies} of ${counts.policies}` : "not known before the first lists are complete";
    if (!differs("health", { ...status, time: "" })) return;
    by("facts").replaceChildren(
      ...fact("Backend", status.backend),
      ...fact("Version", status.version),
      ...fact("Last sync", clock(status.lastSync)),
      ...fact("Last verification", clock(status.lastVerification)),
      ...fact("Policies not in force", pending),
      ...fact("Pods", counts ? `${counts.localPods}, of which ${counts.isolatedPods} are isolated` : "not known"));
    by("checks").replaceChildren(...status.checks.map(check));
    const policies = status.policies || [];
    by("pending").hidden = policies.length === 0;
    by("pending").replaceChildren(...policies.map(policy));
  }

  function flowRow(flow) {
    const cells = [clock(flow.last), flow.from, flow.to, flow.port, `${flow.verdict} by ${flow.direction}`, flow.count, flow.why];
    return element("tr", {}, ...cells.map(text => element("td", {}, String(text))));
  }

  function showFlows(flows) {
    if (!differs("flows", flows)) return;
    by("flow-rows").replaceChildren(...flows.map(flowRow));
    const first = flows.length ? flows[0] : null;
    if (!first) say("flows-summary", "Nothing was denied since the agent started.");
    else if (newest === null || first.number !== newest)
      say("flows-summary", `Latest: ${first.from} to ${first.to}, ${first.port}, ${first.verdict} by ${first.direction}.`);
    if (first) newest = first.number;
  }

  async function look() {
    try {
      const answer = await fetch("live.json", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
      if (!answer.ok) throw new Error(`it answers ${answer.status}`);
      const live = await answer.json();
      showHealth(live.status);
      showFlows(live.flows);
      by("live").classList.remove("stale");
    } catch (error) {
      by("live").classList.add("stale");
      say("health-summary", `The agent does not answer; what is shown here may be old. (${error.message})`);
    }
  }

  async function keepLooking() {
    for (;;) {
      if (!document.hidden) await look();
      await new Promise(done => setTimeout(done, PERIOD));
    }
  }
  keepLooking();
}
