"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const narrow = window.matchMedia("(max-width: 760px)");
  const at = (id) => document.getElementById(id);
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const make = (tag, about = {}, ...children) => {
    const node = Object.assign(document.createElement(tag), about);
    node.append(...children);
    return node;
  };
  const decode = (text) => new DOMParser().parseFromString(text, "text/html").documentElement.textContent;
  const fixed = (value, digits) => (value === null || value === undefined ? "–" : value.toFixed(digits));

  const state = { set: 0, metric: "psnr_db", hidden: new Map(), muted: new Set(), viewer: null };
  const config = { displaylogo: false, responsive: true, displayModeBar: false };
  const grey = () => (dark.matches ? data.colors.greyDark : data.colors.greyLight);
  const color = (style) => (style ? (dark.matches ? data.colors.dark : data.colors.light)[style.color] : grey());

  function layout(x, y, extra = {}) {
    const axis = (text) => ({ title: { text, standoff: 8 }, gridcolor: css("--rule"), linecolor: css("--soft"),
      zeroline: false, ticks: "outside", tickcolor: css("--rule"), automargin: true });
    return { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, hovermode: "closest",
      font: { family: css("--sans"), size: 13, color: css("--ink") }, margin: { l: 56, r: 10, t: 14, b: 46 },
      hoverlabel: { bgcolor: css("--panel"), bordercolor: css("--rule"), font: { color: css("--ink"), size: 13 }, align: "left" },
      dragmode: narrow.matches ? false : "zoom", xaxis: axis(x), yaxis: axis(y), ...extra };
  }

  const keyOf = (line) => `${line.group}: ${line.name}`;
  const shown = (line) => (state.hidden.has(keyOf(line)) ? !state.hidden.get(keyOf(line)) : line.visible);

  function range(values, share) {
    const low = Math.min(...values), high = Math.max(...values);
    const room = Math.max((high - low) * share, 1e-3);
    return [low - room, high + room];
  }

  // Rate-distortion curves ------------------------------------------------------------------------------------------

  function drawCurves() {
    const set = data.testsets[state.set];
    if (!set.metrics.includes(state.metric)) state.metric = set.metrics[0];
    const title = data.titles[state.metric];
    const runs = set.lines.filter((line) => line.group === "runs" && line.metrics[state.metric].x.length);
    const traces = set.lines.map((line) => ({
      type: "scatter", name: line.name, x: line.metrics[state.metric].x, y: line.metrics[state.metric].y, text: line.text,
      mode: line.group === "published" ? "lines" : "lines+markers", visible: shown(line),
      line: { color: color(line.style), width: line.group === "runs" ? 2 : 1.1,
        dash: line.style ? line.style.dash : line.group === "published" ? "dot" : "solid" },
      marker: { symbol: line.style ? line.style.marker + (line.style.hollow ? "-open" : "") : "circle",
        size: line.group === "runs" ? 8 : 4, color: color(line.style), line: { width: 1.5 } },
      hovertemplate: `<b>${line.name}</b><br>%{x:.4f} bpp<br>%{y:.3f} dB${line.text.length ? "<br>%{text}" : ""}<extra></extra>`,
    }));
    const x = runs.flatMap((line) => line.metrics[state.metric].x), y = runs.flatMap((line) => line.metrics[state.metric].y);
    const figure = layout("rate [bits per pixel]", `${title} [dB]`);
    if (x.length) { figure.xaxis.range = range(x, 0.15); figure.yaxis.range = range(y, 0.15); }
    // Grey curves carry their names, since grey is not told apart by colour.
    figure.annotations = set.lines.filter((line) => line.group !== "runs" && shown(line)).flatMap((line) => {
      const { x: xs, y: ys } = line.metrics[state.metric];
      const inside = xs.map((_, k) => k).filter((k) => x.length && xs[k] > figure.xaxis.range[0] && xs[k] < figure.xaxis.range[1]
        && ys[k] > figure.yaxis.range[0] && ys[k] < figure.yaxis.range[1]);
      if (!inside.length) return [];
      const k = inside[inside.length - 1];
      return [{ x: xs[k], y: ys[k], text: line.name, showarrow: false, xanchor: "right", yanchor: "bottom",
        bgcolor: css("--paper"), opacity: 0.85, borderpad: 0, yshift: 2, font: { size: 11, color: grey() } }];
    });
    Plotly.react(at("rd"), traces, figure, config);

    const differences = set.differences.filter((d) => d.metric === state.metric);
    at("difference-figure").hidden = !differences.length;
    at("rd-plots").classList.toggle("single", !differences.length);
    if (differences.length) {
      const lines = differences.map((d) => ({ type: "scatter", mode: "lines", name: d.name, x: d.x, y: d.y,
        visible: !state.hidden.get(`runs: ${d.name}`), line: { color: color(d.style), width: 2, dash: d.style.dash },
        hovertemplate: `<b>${d.name}</b><br>at %{x:.2f} dB: %{y:+.2f} %<extra></extra>` }));
      const extra = { shapes: [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: 0, y1: 0, line: { color: css("--soft"), width: 1 } }] };
      Plotly.react(at("difference"), lines, layout(`${title} [dB]`, "rate against α = 0 [%]", extra), config);
    }
    Plotly.Plots.resize(at("rd"));
    const domain = set.domain ? `${set.domain}, ` : "";
    at("set-about").textContent = `${set.name}: ${domain}${set.count} image${set.count === 1 ? "" : "s"}. `
      + (differences.length ? "The second plot shows where along the curve the bits are saved. " : "")
      + (narrow.matches ? "" : "Drag to zoom, double-click to go back.");
    drawLegend(set);
    for (const button of at("set-choice").children) button.setAttribute("aria-pressed", String(+button.dataset.set === state.set));
    at("metric-choice").replaceChildren(...(set.metrics.length > 1 ? set.metrics : []).map((metric) => {
      const button = make("button", { type: "button", textContent: data.titles[metric],
        onclick: () => { state.metric = metric; drawCurves(); } });
      button.setAttribute("aria-pressed", String(metric === state.metric));
      return button;
    }));
  }

  const DASH = { solid: "", dash: "6 4", dot: "2 3", dashdot: "7 3 2 3", longdash: "10 4" };
  const SHAPE = { circle: "<circle cx='15' cy='6' r='3.6'/>", square: "<rect x='11.6' y='2.6' width='6.8' height='6.8'/>",
    diamond: "<path d='M15 1.4 19.6 6 15 10.6 10.4 6Z'/>", "triangle-up": "<path d='M15 1.8 19.4 9.6H10.6Z'/>",
    "triangle-down": "<path d='M15 10.2 19.4 2.4H10.6Z'/>", x: "<path d='M12 3 18 9M18 3 12 9'/>" };

  function swatch(line) {
    const paint = color(line.style), dash = line.style ? DASH[line.style.dash] : line.group === "published" ? "2 3" : "";
    const fill = line.style && line.style.hollow ? css("--paper") : paint;
    const marker = line.style ? `<g fill='${fill}' stroke='${paint}' stroke-width='1.5'>${SHAPE[line.style.marker]}</g>` : "";
    const node = make("span");
    node.innerHTML = `<svg width='30' height='12' aria-hidden='true'><line x1='0' x2='30' y1='6' y2='6' stroke='${paint}'
      stroke-width='${line.style ? 2 : 1.2}' stroke-dasharray='${dash}'/>${marker}</svg>`;
    return node.firstChild;
  }

  function drawLegend(set) {
    const titles = { runs: "Trained here", measured: "Measured here", published: "Published" };
    const groups = Object.entries(titles).map(([group, title]) => {
      const lines = set.lines.filter((line) => line.group === group && line.metrics[state.metric].x.length);
      if (!lines.length) return null;
      return make("div", {}, make("span", { className: "group", textContent: title }), make("span", {}, ...lines.map((line) => {
        const button = make("button", { type: "button" }, swatch(line), make("span", { textContent: decode(line.name) }));
        button.setAttribute("aria-pressed", String(shown(line)));
        button.dataset.key = keyOf(line);
        button.onclick = () => {
          state.hidden.set(keyOf(line), shown(line));
          drawCurves();
          [...at("legend").querySelectorAll("button")].find((b) => b.dataset.key === keyOf(line)).focus({ preventScroll: true });
        };
        return button;
      })));
    });
    at("legend").replaceChildren(...groups.filter(Boolean));
  }

  // Images ----------------------------------------------------------------------------------------------------------

  const nameOf = (label) => (data.runs.find((run) => run.label === label) || { name: label }).name;
  const picturesOf = (set, image) => data.pictures.find((p) => p.testset === set.name && p.image === image);

  function fillRuns() {
    const set = data.testsets[+at("image-set").value];
    at("image-run").replaceChildren(...set.images.runs.map((run, k) =>
      make("option", { value: String(k), textContent: nameOf(run.label) })));
    fillImages();
  }

  function fillImages() {
    const set = data.testsets[+at("image-set").value], run = set.images.runs[+at("image-run").value];
    at("image-table").tBodies[0].replaceChildren(...set.images.names.map((name, k) => {
      if (run.bpp[k] === null) return "";
      const mark = picturesOf(set, name) ? "▸ " : "";
      const button = make("button", { type: "button", textContent: mark + name });
      const row = make("tr", { onclick: () => openImage(set, k) }, make("th", { scope: "row" }, button),
        make("td", { textContent: set.images.sizes[k].replace("x", " × ") }),
        ...cells(run, k));
      return row;
    }));
  }

  const cells = (run, k) => [["bpp", 4], ["psnr", 2], ["ms_ssim", 2], ["source", 3]].map(([key, digits]) =>
    make("td", { textContent: fixed(run[key][k], digits) }));

  function openImage(set, k, chosen) {
    const name = set.images.names[k], found = picturesOf(set, name), runs = found ? found.of_runs : [];
    const picture = runs.find((p) => p.run === chosen) || runs[0];
    at("viewer-title").textContent = `${name} · ${set.name}`;
    at("viewer-runs").replaceChildren(...runs.map((p) => {
      const button = make("button", { type: "button", textContent: nameOf(p.run), onclick: () => openImage(set, k, p.run) });
      button.setAttribute("aria-pressed", String(p === picture));
      return button;
    }));
    at("viewer-about").textContent = !found ? "No pictures of this image: only numbers."
      : `Hold the reconstruction to see the original.${found.cut ? " The middle of the image is shown." : ""}`;
    at("viewer-pictures").replaceChildren(...(picture ? viewerPictures(found, picture, set, k) : []));
    const order = set.images.runs.map((run) => run).filter((run) => run.bpp[k] !== null).sort((a, b) => a.bpp[k] - b.bpp[k]);
    at("viewer-table").tBodies[0].replaceChildren(...order.map((run) =>
      make("tr", { className: picture && run.label === picture.run ? "shown" : "" },
        make("th", { scope: "row", textContent: nameOf(run.label) }), ...cells(run, k))));
    if (!at("viewer").open) { at("viewer").showModal(); at("viewer").scrollTop = 0; }
  }

  function viewerPictures(found, picture, set, k) {
    const run = set.images.runs.find((r) => r.label === picture.run);
    const about = `${fixed(run.bpp[k], 3)} bpp, ${fixed(run.psnr[k], 2)} dB`;
    const scale = (low, high) => make("span", { className: "scale" }, low, make("i"), high);
    const frame = (image, title, right) => make("figure", {}, image, make("figcaption", {}, make("span", { textContent: title }), right));
    const original = make("img", { src: found.original, alt: `Original of ${found.image}` });
    const coded = make("img", { src: picture.x_hat, alt: `Reconstruction of ${found.image}`, className: "peek", draggable: false });
    coded.onpointerdown = () => { coded.src = found.original; };
    coded.onpointerup = coded.onpointerleave = coded.onpointercancel = () => { coded.src = picture.x_hat; };
    const error = make("img", { src: picture.error, alt: "Map of the absolute error" });
    const result = [frame(original, "Original", ""), frame(coded, "Reconstruction", about),
      frame(error, "Absolute error, grey levels", scale("0", String(found.error_levels)))];
    if (picture.bits) {
      const bits = make("img", { src: picture.bits, alt: "Map of the latent's bits", className: "map" });
      original.onload = () => { bits.style.aspectRatio = `${original.naturalWidth} / ${original.naturalHeight}`; };
      result.push(frame(bits, `Bits of the latent, per pixel (side information: ${picture.rest_bpp.toFixed(3)})`,
        scale("0", picture.bits_top.toFixed(2))));
    }
    return result;
  }

  // Training --------------------------------------------------------------------------------------------------------

  const PANELS = { rate_bpp: ["R [bits per pixel]", "log"], mse_255: ["D [MSE, grey levels²]", "log"],
    source_bpp: ["H<sub>θ</sub>(X|X̂) [bits per pixel]", "log"], pressure: ["pressure ρ", "linear"] };

  function drawTraining() {
    if (!data.histories.length) return;
    for (const [key, [title, type]] of Object.entries(PANELS)) {
      const traces = data.histories.filter((h) => h[key].some((v) => v !== null)).map((h) => ({
        type: "scatter", mode: "lines", name: h.name, x: h.step, y: h[key], visible: !state.muted.has(h.family),
        opacity: data.histories.length > 8 ? 0.7 : 1, line: { color: color(h.style), width: 1.2, dash: h.style.dash === "dash" ? "dash" : "solid" },
        hovertemplate: `<b>${h.name}</b><br>update %{x}<br>%{y:.4g}<extra></extra>` }));
      const figure = layout("codec updates", title);
      figure.yaxis.type = type;
      if (type === "log") { figure.yaxis.dtick = "D2"; figure.yaxis.tickformat = "~g"; }
      if (type === "linear") figure.yaxis.rangemode = "tozero";
      at(`train-${key}`).parentElement.hidden = !traces.length;
      if (traces.length) Plotly.react(at(`train-${key}`), traces, figure, config);
    }
    const families = [...new Map(data.histories.map((h) => [h.family, h])).values()];
    at("train-legend").replaceChildren(make("div", {}, make("span", { className: "group", textContent: "Codecs" }), make("span", {}, ...families.map((h) => {
      const button = make("button", { type: "button" }, swatch({ style: h.style, group: "runs" }),
        make("span", { textContent: decode(h.family) }));
      button.setAttribute("aria-pressed", String(!state.muted.has(h.family)));
      button.onclick = () => {
        if (!state.muted.delete(h.family)) state.muted.add(h.family);
        drawTraining();
      };
      return button;
    }))));
  }

  const drawAll = () => { drawCurves(); drawTraining(); };
  for (const button of at("set-choice").children) button.onclick = () => { state.set = +button.dataset.set; drawCurves(); };
  at("set-choice").hidden = data.testsets.length < 2;
  at("image-set").onchange = fillRuns;
  at("image-run").onchange = fillImages;
  at("viewer-close").onclick = () => at("viewer").close();
  at("viewer").onclick = (event) => { if (event.target === at("viewer")) at("viewer").close(); };
  dark.addEventListener("change", drawAll);
  narrow.addEventListener("change", drawAll);
  fillRuns();
  drawAll();
  document.documentElement.dataset.ready = "true";
})();
