"use strict";
(() => {
  const runs = JSON.parse(document.getElementById("data").textContent);
  const table = document.getElementById("run-list");
  const body = table.tBodies[0];
  const form = document.getElementById("filters");
  const heads = [...table.querySelectorAll("th[data-key]")];
  const keys = heads.map((head) => head.dataset.key);
  const measured = ["ndcg", "hr", "cov"];
  const shown = (value, key) => value === null || value === undefined ? "—"
    : measured.includes(key) ? value.toFixed(4)
    : typeof value === "number" && !Number.isInteger(value) ? String(Number(value.toFixed(4))) : String(value);
  let order = { key: "dataset", sign: 1 };

  const element = (tag, words, attributes = {}) => {
    const made = document.createElement(tag);
    made.textContent = words;
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  };

  function compare(a, b) {
    const [x, y] = [a[order.key], b[order.key]];
    if (x === null || y === null) return x === y ? 0 : x === null ? 1 : -1;
    return order.sign * (typeof x === "number" ? x - y : String(x).localeCompare(String(y)));
  }

  function line(kind, epochs, values, left, width, height) {
    const there = epochs.map((epoch, i) => [epoch, values[i]]).filter((point) => point[1] !== null);
    if (!there.length) return "";
    const [low, high] = [Math.min(...there.map((p) => p[1])), Math.max(...there.map((p) => p[1]))];
    const last = Math.max(...epochs, 2);
    const x = (epoch) => left + (width * (epoch - 1)) / (last - 1);
    const y = (value) => 12 + height * (high > low ? (high - value) / (high - low) : 0.5);
    const points = there.map((p) => `${x(p[0]).toFixed(1)},${y(p[1]).toFixed(1)}`).join(" ");
    const drawn = there.length > 1 ? `<polyline class="${kind}" points="${points}"/>`
      : `<circle class="${kind}" cx="${x(there[0][0]).toFixed(1)}" cy="${y(there[0][1]).toFixed(1)}" r="${kind === "loss" ? 4 : 2.5}"/>`;
    const side = kind === "loss" ? `x="${left - 6}" text-anchor="end"` : `x="${left + width + 6}"`;
    return `${drawn}<text ${side} y="16">${high.toPrecision(3)}</text>` +
      `<text ${side} y="${14 + height}">${low.toPrecision(3)}</text>`;
  }

  function curve(run) {
    const cell = document.createElement("td");
    cell.colSpan = keys.length + 1;
    cell.className = "curve";
    const { epoch, loss, valid, best } = run.curve;
    if (epoch.length) {
      const words = `Learning curve over ${epoch.length} epochs, best epoch ${shown(best)}`;
      const svg = line("loss", epoch, loss, 60, 420, 110) + line("valid", epoch, valid, 60, 420, 110);
      cell.innerHTML = `<svg role="img" aria-label="${words}" width="560" height="150" viewBox="0 0 560 150">${svg}` +
        `<text x="60" y="145">epoch 1 to ${epoch[epoch.length - 1]}, best ${shown(best)}; dashed: training loss (left), ` +
        "solid: validation ndcg@10 (right)</text></svg>";
    }
    if (run.error) cell.append(element("p", run.error));
    cell.append(element("p", `${run.key}; ${run.origin}`));
    return cell;
  }

  function draw() {
    const wanted = Object.fromEntries(new FormData(form));
    const words = wanted.words.toLowerCase();
    const kept = runs.filter((run) =>
      [...form.querySelectorAll("select")].every((menu) => !menu.value || String(run[menu.name]) === menu.value) &&
      (!words || keys.some((key) => shown(run[key], key).toLowerCase().includes(words)) || run.key.includes(words)));
    kept.sort(compare);
    body.replaceChildren(...kept.map((run) => {
      const row = document.createElement("tr");
      const first = element("th", "", { scope: "row" });
      const key = run.key.slice(0, 8);
      const label = `${key}, ${run.dataset}, ${run.method}, seed ${run.seed}`;
      const button = element("button", key, { type: "button", "aria-expanded": "false", "aria-label": label });
      button.addEventListener("click", () => {
        const open = button.getAttribute("aria-expanded") === "true";
        button.setAttribute("aria-expanded", String(!open));
        if (open) { row.nextSibling.remove(); return; }
        const detail = document.createElement("tr");
        detail.append(curve(run));
        row.after(detail);
      });
      first.append(button);
      row.append(first, ...keys.map((key) => element("td", shown(run[key], key))));
      return row;
    }));
    document.getElementById("count").textContent = `${kept.length} of ${runs.length} runs`;
    for (const head of heads) {
      head.setAttribute("aria-sort", head.dataset.key !== order.key ? "none"
        : order.sign > 0 ? "ascending" : "descending");
    }
  }

  for (const head of heads) {
    head.querySelector("button").addEventListener("click", () => {
      const key = head.dataset.key;
      order = { key, sign: order.key === key ? -order.sign : 1 };
      draw();
    });
  }
  form.addEventListener("input", draw);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(draw));

  // what is folded on the screen is printed too
  let folded = [];
  const unfold = (open) => folded.forEach((part) => { part.open = open; });
  addEventListener("beforeprint", () => { folded = [...document.querySelectorAll("details:not([open])")]; unfold(true); });
  addEventListener("afterprint", () => unfold(false));

  // #method=BT-SR&sort=-ndcg&open=1 in the address: a link to a filtered list
  const given = new URLSearchParams(location.hash.slice(1));
  for (const [name, value] of given) {
    if (form.elements[name]) form.elements[name].value = value;
  }
  if (given.has("sort")) {
    const key = given.get("sort").replace(/^-/, "");
    if (keys.includes(key)) order = { key, sign: given.get("sort").startsWith("-") ? -1 : 1 };
  }
  draw();
  if (given.has("open") && body.rows.length) body.querySelector("button").click();
})();
