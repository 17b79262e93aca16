// The interactive time line: delays of packets on a log scale, what was lost below them, phases of
// moves behind them, failures and take-overs as lines with letters, and what is under the pointer in
// words.
(() => {
  const runs = JSON.parse(document.getElementById("timeline-data").textContent);
  const place = document.getElementById("timeline-chart");
  const said = document.getElementById("timeline-said");
  const chooser = document.getElementById("timeline-run");
  const key = document.getElementById("timeline-key");
  if (!runs.length) return;

  const floats = (text) => {
    const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    return new Float32Array(bytes.buffer);
  };
  const points = (flow) => {
    const at = floats(flow.at), delay = floats(flow.delay), lost = floats(flow.lost_at);
    return { at, delay, lost };
  };

  // One x for all series, as uPlot wants it; each flow has values at its own packets only.
  const aligned = (run) => {
    const flows = run.flows.map(points);
    let least = Infinity, most = 0;
    for (const { delay } of flows) for (const value of delay) {
      least = Math.min(least, value); most = Math.max(most, value);
    }
    if (!most) { least = 0.1; most = 10; }
    const all = [];
    flows.forEach(({ at, delay, lost }, number) => {
      for (let i = 0; i < at.length; i++) all.push([at[i], number, delay[i]]);
      for (let i = 0; i < lost.length; i++) all.push([lost[i], number, null]);
    });
    all.sort((one, other) => one[0] - other[0]);
    const x = all.map((each) => each[0]);
    const series = run.flows.map(() => new Array(all.length).fill(null));
    const floor = least / 1.5;
    all.forEach(([, number, delay], i) => {
      series[number][i] = delay === null ? floor / 1.35 ** number : Math.max(delay, least);
    });
    return { all, data: [x, ...series], floor, low: floor / 1.35 ** (run.flows.length + 1), most };
  };

  const dark = matchMedia("(prefers-color-scheme: dark)");
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  let chart = null, shown = null;

  const describe = (u) => {
    const { left, top, idx } = u.cursor;
    if (left < 0 || idx === null || idx === undefined) { said.textContent = said.dataset.hint; return; }
    let nearest = null, distance = 14 ** 2;
    const x = u.data[0];
    for (const step of [-1, 1]) {
      for (let i = idx; i >= 0 && i < x.length; i += step) {
        const across = u.valToPos(x[i], "x") - left;
        if (Math.abs(across) > 14) break;
        const number = shown.all[i][1];
        const down = u.valToPos(u.data[number + 1][i], "y") - top;
        const here = across ** 2 + down ** 2;
        if (here < distance && u.series[number + 1].show) { distance = here; nearest = i; }
      }
    }
    const words = [];
    if (nearest !== null) {
      const [at, number, delay] = shown.all[nearest];
      const fate = delay === null ? "lost" : `arrived after ${delay.toPrecision(3)} ms`;
      words.push(`${shown.run.flows[number].name}: sent at ${at.toFixed(4)} s, ${fate}`);
    }
    const near = shown.run.events
      .map((event) => [Math.abs(u.valToPos(event[0], "x") - left), event])
      .filter(([away]) => away < 6).sort((one, other) => one[0] - other[0]).slice(0, 3);
    for (const [, [at, name, meaning]] of near) {
      words.push(`${at.toFixed(4)} s ${name}${meaning ? `: ${meaning}` : ""}`);
    }
    said.textContent = words.length ? words.join(" · ") : said.dataset.hint;
  };

  const behind = (u) => {
    const { ctx } = u, { top, height, left, width } = u.bbox;
    ctx.save();
    ctx.beginPath(); ctx.rect(left, top, width, height); ctx.clip();
    for (const [start, end, ...colours] of shown.run.phases) {
      const from = u.valToPos(start, "x", true), to = u.valToPos(end, "x", true);
      ctx.fillStyle = colours[dark.matches ? 1 : 0];
      ctx.fillRect(from, top, Math.max(to - from, 1), height);
    }
    const visible = shown.run.events.filter(([at]) => at >= u.scales.x.min && at <= u.scales.x.max);
    if (visible.length <= 60) {
      ctx.strokeStyle = style("--faint"); ctx.lineWidth = 0.6;
      for (const [at] of visible) {
        const x = u.valToPos(at, "x", true);
        ctx.beginPath(); ctx.moveTo(x, top); ctx.lineTo(x, top + height); ctx.stroke();
      }
    }
    const line = u.valToPos(shown.floor * 1.2, "y", true);
    ctx.strokeStyle = style("--faint"); ctx.lineWidth = 1;
    ctx.beginPath(); ctx.moveTo(left, line); ctx.lineTo(left + width, line); ctx.stroke();
    ctx.fillStyle = style("--ink"); ctx.font = `${11 * devicePixelRatio}px sans-serif`;
    ctx.fillText("lost", left + 4, line + 12 * devicePixelRatio);
    ctx.restore();
  };

  // Above the packets; a letter that would cover the one before it is moved a little, or left out.
  const before = (u) => {
    const { ctx } = u, { top, height, left, width } = u.bbox, size = 12 * devicePixelRatio;
    ctx.save();
    ctx.beginPath(); ctx.rect(left, top, width, height); ctx.clip();
    ctx.strokeStyle = ctx.fillStyle = style("--ink");
    ctx.lineWidth = devicePixelRatio; ctx.setLineDash([4 * devicePixelRatio, 3 * devicePixelRatio]);
    ctx.font = `bold ${size}px sans-serif`;
    let taken = -Infinity, last = "";
    for (const [at, letter] of shown.run.marks) {
      const x = u.valToPos(at, "x", true);
      if (x < left || x > left + width) continue;
      ctx.beginPath(); ctx.moveTo(x, top); ctx.lineTo(x, top + height); ctx.stroke();
      const start = Math.max(x + 2 * devicePixelRatio, taken);
      if (start > x + 3 * size || (letter === last && start > x + size / 2)) continue;
      ctx.fillText(letter, start, top + size);
      taken = start + size; last = letter;
    }
    ctx.restore();
  };

  // What colours and letters mean, below the chart.
  const explain = (run) => {
    key.replaceChildren();
    const line = (mark, words) => {
      const item = document.createElement("li");
      item.append(mark, ` ${words}`);
      key.append(item);
    };
    for (const [light, darker, words] of run.named_phases) {
      const swatch = document.createElement("span");
      swatch.className = "swatch"; swatch.style.background = dark.matches ? darker : light;
      line(swatch, words);
    }
    const times = new Map();
    for (const [at, letter, words] of run.marks) {
      const called = `${letter}: ${words}`;
      times.set(called, [...(times.get(called) ?? []), at.toFixed(2)]);
    }
    for (const [called, each] of times) {
      const more = each.length > 3 ? ` and ${each.length - 3} more` : "";
      line("", `${called}, at ${each.slice(0, 3).join(", ")}${more} s`);
    }
  };

  const clamp = (min, max) => {
    const end = shown.run.end_s, length = Math.min(max - min, end * 1.02);
    const start = Math.min(Math.max(min, -0.01 * end), end * 1.01 - length);
    chart.setScale("x", { min: start, max: start + length });
  };
  const zoom = (factor, centre) => {
    const { min, max } = chart.scales.x, at = centre ?? (min + max) / 2;
    clamp(at - (at - min) * factor, at + (max - at) * factor);
  };
  const pan = (part) => {
    const { min, max } = chart.scales.x, by = (max - min) * part;
    clamp(min + by, max + by);
  };

  const draw = () => {
    const run = runs[Number(chooser.value) || 0];
    explain(run);
    shown = { run, ...aligned(run) };
    const ink = style("--ink"), grid = { stroke: style("--line"), width: 1 };
    const delays = (u, ticks) => ticks.map((tick) => tick < shown.floor * 1.2 ? null : tick);
    const width = place.clientWidth, height = Math.max(260, Math.min(440, width * 0.6));
    // Flows of one pair of VMs share a colour: the first is filled, the others are hollow.
    const series = run.flows.map((flow, number) => {
      const first = run.flows.findIndex((other) => other.colour === flow.colour) === number;
      const size = (width < 600 ? 3 : 4) + (first ? 0 : 1);
      return {
        label: flow.name, stroke: flow.colour, fill: first ? flow.colour : undefined, paths: () => null,
        points: { show: true, size, fill: first ? flow.colour : style("--paper"), width: first ? 0 : 1 },
      };
    });
    chart?.destroy();
    chart = new uPlot({
      width, height, legend: { show: run.flows.length <= 12, live: false },
      cursor: { drag: { x: true, y: false }, points: { show: false } },
      scales: { x: { time: false, range: (u, min, max) => [min, max] },
                y: { distr: 3, range: () => [shown.low, shown.most * 1.3] } },
      axes: [
        { stroke: ink, grid, label: "time since the traffic began (s)", labelSize: 24 },
        { stroke: ink, grid: { ...grid, filter: delays }, ticks: { ...grid, filter: delays },
          label: "one-way delay (ms)", labelSize: 20, size: 48,
          values: (u, ticks) => ticks.map((tick) => tick === null || tick < shown.floor ? "" : Number(tick.toPrecision(2))) },
      ],
      series: [{ label: "flows:" }, ...series],
      hooks: { drawClear: [behind], draw: [before], setCursor: [describe] },
    }, shown.data, place);
    chart.setScale("x", { min: -0.01 * run.end_s, max: run.end_s * 1.01 });
    chart.over.addEventListener("wheel", (event) => {
      event.preventDefault();
      if (event.shiftKey) { pan(Math.sign(event.deltaY || event.deltaX) * 0.1); return; }
      zoom(event.deltaY > 0 ? 1.3 : 1 / 1.3, chart.posToVal(event.offsetX, "x"));
    }, { passive: false });
    chart.over.addEventListener("dblclick", () => clamp(-0.01 * run.end_s, run.end_s * 1.01));
  };

  runs.forEach((run, number) => chooser.add(new Option(run.name, String(number))));
  chooser.parentElement.hidden = runs.length < 2;
  chooser.addEventListener("change", draw);
  const actions = { in: () => zoom(0.5), out: () => zoom(2), left: () => pan(-0.4), right: () => pan(0.4),
                    all: () => clamp(-1, 1e9) };
  for (const button of document.querySelectorAll("#timeline button")) {
    button.addEventListener("click", actions[button.dataset.does]);
  }
  said.textContent = said.dataset.hint;
  draw();
  let width = place.clientWidth;
  new ResizeObserver(() => {
    if (place.clientWidth !== width) { width = place.clientWidth; draw(); }
  }).observe(place);
  dark.addEventListener("change", draw);
})();
