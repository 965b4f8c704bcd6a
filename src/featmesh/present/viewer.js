"use strict";
// one viewer for each object that has a pose
const scenes = JSON.parse(document.getElementById("scenes").textContent);
document.querySelectorAll("section.object").forEach((root, i) => { if (scenes[i]) view3d(root, scenes[i]); });

function view3d(root, scene) {
  const the = name => root.querySelector(name);
  const canvas = the("canvas"), pen = canvas.getContext("2d");
  const layer = document.createElement("canvas"), ink = layer.getContext("2d");
  const image = document.querySelector('img[alt="Photo"]');
  const F = scene.faces, S = scene.shapes, calm = matchMedia("(prefers-reduced-motion: reduce)");
  const AXES = scene.axes;  // [end point, colour]
  const WAYS = scene.colourings;  // palette, its entry for each face, what the entries mean
  let pose, start, turned, zoom, chosen = 0, showPhoto = true, queued = false, way = WAYS[0];
  let shape = S.length - 1, V = S[shape].vertices;

  const multiply = (A, B) => A.map(row => [0, 1, 2].map(j => row[0] * B[0][j] + row[1] * B[1][j] + row[2] * B[2][j]));
  const aboutX = a => [[1, 0, 0], [0, Math.cos(a), -Math.sin(a)], [0, Math.sin(a), Math.cos(a)]];
  const aboutY = a => [[Math.cos(a), 0, Math.sin(a)], [0, 1, 0], [-Math.sin(a), 0, Math.cos(a)]];
  const toCamera = p => pose.R.map((r, i) => r[0] * p[0] + r[1] * p[1] + r[2] * p[2] + pose.t[i]);
  const toPhoto = p => [scene.K[0][0] * p[0] / p[2] + scene.K[0][2], scene.K[1][1] * p[1] / p[2] + scene.K[1][2]];

  // the part of the photo that is shown: the object's box with a margin, in the shape of the canvas
  function view() {
    const [x0, y0, x1, y1] = scene.box, w = canvas.width, h = canvas.height;
    const scale = zoom * Math.min(w / (1.5 * (x1 - x0)), h / (1.5 * (y1 - y0)));
    return { scale, left: (x0 + x1) / 2 - w / 2 / scale, top: (y0 + y1) / 2 - h / 2 / scale };
  }

  function draw() {
    queued = false;
    const ratio = window.devicePixelRatio || 1, width = Math.round(canvas.clientWidth * ratio);
    const height = Math.round(canvas.clientHeight * ratio);
    if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
    layer.width = width; layer.height = height;
    const { scale, left, top } = view(), place = p => { const q = toPhoto(p); return [(q[0] - left) * scale, (q[1] - top) * scale]; };
    const away = Math.min(1, turned / 0.5);  // 0 in the estimated view, 1 from about 30 degrees on
    pen.clearRect(0, 0, width, height);
    if (showPhoto) {
      pen.globalAlpha = 1 - 0.85 * away;
      pen.drawImage(image, -left * scale, -top * scale, scene.width * scale, scene.height * scale);
    }
    paintMesh(place);
    const frontIsNear = pose.R[2][1] > 0;  // the front is -y
    if (!frontIsNear) paintFront(place);
    pen.globalAlpha = showPhoto ? 0.62 + 0.38 * away : 1;
    pen.drawImage(layer, 0, 0);
    pen.globalAlpha = 1;
    if (frontIsNear) paintFront(place);
    paintAxes(place, 2.2 * ratio);
  }

  // the painter's algorithm: faces that look at the camera, the farthest first
  function paintMesh(place) {
    const points = V.map(toCamera), pixels = points.map(place), visible = [];
    F.forEach(([a, b, c], f) => {
      const p = points[a], q = points[b], r = points[c];
      if (Math.min(p[2], q[2], r[2]) < 0.02) return;
      const u = [q[0] - p[0], q[1] - p[1], q[2] - p[2]], v = [r[0] - p[0], r[1] - p[1], r[2] - p[2]];
      const n = [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
      if (n[0] * p[0] + n[1] * p[1] + n[2] * p[2] >= 0) return;
      const [x, y, z] = n.map(k => k / (Math.hypot(...n) || 1));
      const shade = 0.3 + 0.4 * Math.max(0, -z) + 0.5 * Math.max(0, -0.353 * x - 0.756 * y - 0.552 * z);
      visible.push([p[2] + q[2] + r[2], shade, way.palette[way.of ? way.of[f] : 0], a, b, c]);
    });
    visible.sort((f, g) => g[0] - f[0]);
    ink.lineWidth = 1; ink.lineJoin = "round";
    for (const [, shade, tint, a, b, c] of visible) {
      ink.fillStyle = ink.strokeStyle = `rgb(${tint.map(t => Math.min(255, Math.round(t * shade))).join()})`;
      ink.beginPath();
      ink.moveTo(...pixels[a]); ink.lineTo(...pixels[b]); ink.lineTo(...pixels[c]);
      ink.closePath(); ink.fill(); ink.stroke();
    }
  }

  function paintFront(place) {
    const front = scene.front.map(toCamera);
    if (front.some(p => p[2] < 0.02)) return;
    pen.beginPath();
    front.map(place).forEach((q, i) => i ? pen.lineTo(...q) : pen.moveTo(...q));
    pen.closePath(); pen.globalAlpha = 0.85; pen.fillStyle = "rgb(255,196,40)"; pen.fill(); pen.globalAlpha = 1;
  }

  function paintAxes(place, width) {
    const origin = toCamera([0, 0, 0]);
    const ends = AXES.map(([tip, colour]) => [toCamera(tip), colour]).sort((a, b) => b[0][2] - a[0][2]);
    for (const [tip, colour] of ends) {
      if (Math.min(origin[2], tip[2]) < 0.02) continue;
      const a = place(origin), b = place(tip);
      pen.strokeStyle = pen.fillStyle = `rgb(${colour.join()})`; pen.lineWidth = width; pen.lineCap = "round";
      pen.beginPath(); pen.moveTo(...a); pen.lineTo(...b); pen.stroke();
      pen.beginPath(); pen.arc(...b, 1.6 * width, 0, 7); pen.fill();
    }
  }

  const refresh = () => { if (!queued) { queued = true; requestAnimationFrame(draw); } };
  function turn(dx, dy) {
    pose.R = multiply(multiply(aboutY(-dx), aboutX(dy)), pose.R);
    const trace = [0, 1, 2].reduce((s, i) => s + pose.R[i].reduce((d, v, j) => d + v * start.R[i][j], 0), 0);
    turned = Math.acos(Math.max(-1, Math.min(1, (trace - 1) / 2)));
    refresh();
  }
  function reset() {
    start = scene.poses[chosen]; pose = { R: start.R, t: start.t }; turned = 0; zoom = 1;
    mark(".poses", chosen);
    refresh();
  }
  // the surface moves from what is shown to the chosen shape
  function reshape(k) {
    const from = V, to = S[k].vertices, begin = performance.now(), takes = calm.matches ? 0 : 400;
    shape = k;
    mark(".shapes", shape);
    const step = now => {
      if (shape !== k) return;
      const s = takes ? Math.min(1, Math.max(0, now - begin) / takes) : 1;
      V = s < 1 ? to.map((p, i) => p.map((v, j) => from[i][j] + s * (v - from[i][j]))) : to;
      draw();
      if (s < 1) requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }
  function colour(k) {
    way = WAYS[k];
    mark(".colours", k);
    the(".key").hidden = !way.key.length;
    the(".key").replaceChildren(...way.key.flatMap((name, entry) => {
      if (!name) return [];
      const told = document.createElement("span"), sample = document.createElement("i");
      sample.style.background = `rgb(${way.palette[entry].join()})`;
      told.append(sample, name);
      return [told];
    }));
    refresh();
  }
  const mark = (group, chosen) => root.querySelectorAll(`${group} button`).forEach((b, i) => b.setAttribute("aria-pressed", i === chosen));
  const magnify = factor => { zoom = Math.max(0.3, Math.min(8, zoom * factor)); refresh(); };

  const held = new Map();
  const spread = () => { const [a, b] = [...held.values()]; return Math.hypot(a[0] - b[0], a[1] - b[1]) || 1; };
  canvas.addEventListener("pointerdown", e => { canvas.setPointerCapture(e.pointerId); held.set(e.pointerId, [e.clientX, e.clientY]); });
  canvas.addEventListener("pointermove", e => {
    const last = held.get(e.pointerId);
    if (!last) return;
    const before = held.size === 2 ? spread() : 0;
    held.set(e.pointerId, [e.clientX, e.clientY]);
    if (held.size === 2) magnify(spread() / before);
    else if (held.size === 1) turn((e.clientX - last[0]) * 0.008, (e.clientY - last[1]) * 0.008);
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, e => held.delete(e.pointerId));
  canvas.addEventListener("wheel", e => { e.preventDefault(); magnify(Math.exp(-e.deltaY * 0.0015)); }, { passive: false });
  canvas.addEventListener("keydown", e => {
    const step = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] }[e.key];
    if (step) { e.preventDefault(); turn(...step); } else if (e.key === "+") magnify(1.15); else if (e.key === "-") magnify(1 / 1.15);
  });
  canvas.addEventListener("dblclick", reset);
  the(".reset").addEventListener("click", reset);
  the("button.photo").addEventListener("click", e => {
    showPhoto = !showPhoto; e.target.setAttribute("aria-pressed", showPhoto); refresh();
  });
  function offer(name, choices, choose) {
    const group = the(name);
    group.hidden = choices.length < 2;
    choices.forEach((choice, i) => {
      const button = document.createElement("button");
      button.type = "button"; button.textContent = choice.name;
      button.addEventListener("click", () => choose(i));
      group.append(button);
    });
  }
  offer(".poses", scene.poses, i => { chosen = i; reset(); });
  offer(".shapes", S, reshape);
  offer(".colours", WAYS, colour);
  mark(".shapes", shape);
  mark(".colours", 0);
  new ResizeObserver(refresh).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", refresh);
  image.complete ? reset() : image.addEventListener("load", reset);
}
