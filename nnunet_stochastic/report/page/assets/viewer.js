"use strict";
// The viewer of one case: NiiVue with the image, one map at a time, and the outlines of annotations, prediction and a
// sample. Outlines are drawn from masks for the planes that are shown: the border of a mask within one plane fills whole
// areas of another, where that only touches the structure.

const OUTLINE_COLOURS = [[86, 180, 233], [230, 159, 0], [0, 158, 115], [204, 121, 167], [213, 94, 0], [0, 114, 178]];
const PREDICTION_COLOURS = [[255, 255, 255], [240, 228, 66], ...OUTLINE_COLOURS];
const MASK_COLOURS = { outer: [86, 180, 233], inner: [0, 220, 150] };
const SAMPLE_COLOURS = [[255, 80, 255], [120, 255, 120], ...OUTLINE_COLOURS];
const PLANE_AXES = { 0: 2, 1: 1, 2: 0, 3: 2 }; // axis that the slider moves along: x, y, z = 0, 1, 2

class CaseViewer {
  constructor(elements) {
    this.elements = elements;
    this.niivue = null;
    this.latest = 0; // of several cases asked for in a row only the last is shown
    this.visible = { annotations: true, prediction: true, outer: true, inner: true, samples: true };
    this.sample = 0; // 0: none is shown
    this.map = null;
    elements.map.addEventListener("change", () => { this.map = elements.map.value; this.showMap(); });
    elements.opacity.addEventListener("input", () => this.showMap());
    elements.scale.addEventListener("input", () => this.showMap());
    elements.plane.addEventListener("change", () => this.showPlane());
    elements.slice.addEventListener("input", () => this.moveTo(Number(elements.slice.value)));
    elements.smooth.addEventListener("change", () => this.niivue.setInterpolation(!elements.smooth.checked));
  }

  async start() {
    if (!this.elements.canvas.getContext("webgl2", { stencil: true })) {
      throw new Error("This browser offers no WebGL 2, which the viewer needs. Try another browser, or enable hardware acceleration.");
    }
    const viewer = new niivue.Niivue({
      isRadiologicalConvention: true, isColorbar: false, show3Dcrosshair: false, crosshairWidth: 0.4, crosshairWidthUnit: "percent",
      crosshairColor: [0.34, 0.71, 0.91, 0.7], backColor: [0, 0, 0, 1], dragAndDropEnabled: false,
      scrollRequiresFocus: true, multiplanarShowRender: 0, isNearestInterpolation: !this.elements.smooth.checked, logLevel: "error", loadingText: "",
    });
    await viewer.attachToCanvas(this.elements.canvas, false);
    viewer.onLocationChange = (place) => this.describe(place);
    this.niivue = viewer;
  }

  // mark: what stands behind the name of the epistemic map.
  async show(entry, mark) {
    const asked = ++this.latest;
    if (!this.niivue) await this.start();
    const volumes = [];
    const masks = {};
    for (const mask of entry.masks) {
      const values = (await loadVolume(mask)).img;
      masks[mask.name] = { kind: mask.kind, values, used: mask.kind === "bits" ? values.reduce((all, value) => all | value, 0) : 0 };
    }
    const samples = entry.masks.find((mask) => mask.kind === "samples");
    // A mask without a volume to be drawn into has one of its own, on the grid of the prediction; samples are on top.
    const own = entry.masks.filter((mask) => !entry.layers.some((layer) => layer.name === mask.name)).sort((one, other) => (one === samples) - (other === samples));
    const prediction = entry.layers.find((layer) => layer.name === "prediction");
    const layers = [...entry.layers, ...own.map((mask) => ({ ...prediction, name: mask.name, labels: mask.labels }))];
    for (const layer of layers) volumes.push(await loadVolume(layer));
    if (asked !== this.latest) return;
    const viewer = this.niivue;
    layers.forEach((layer, index) => {
      if (layer.kind !== "outline") return;
      const name = "outline-" + layer.name;
      viewer.addColormap(name, outlineColours(layer));
      volumes[index]._colormap = name;
      volumes[index].colormap = name;
    });
    while (viewer.volumes.length) viewer.removeVolume(viewer.volumes[0]);
    volumes.forEach((volume) => viewer.addVolume(volume));
    this.entry = entry;
    this.layers = layers;
    this.masks = masks;
    this.painted = {};
    this.place = null;
    this.mark = mark;
    this.sample = 0;
    this.numSamples = samples ? masks.samples.values.length / entry.shape.reduce((product, size) => product * size) : 0;
    this.elements.samples.hidden = !samples;
    this.tellSample();
    const flat = entry.shape[0] === 1;
    viewer.setIsOrientationTextVisible(entry.oriented);
    this.elements.plane.disabled = flat;
    this.elements.slice.disabled = flat;
    if (flat) this.elements.plane.value = "0";
    this.fillMaps();
    this.fillLegend();
    viewer.scene.crosshairPos = viewer.mm2frac(entry.start_mm);
    this.showMap();
    this.showPlane();
  }

  mapIndex() { return this.layers.findIndex((layer) => layer.kind === "map" && layer.name === this.elements.map.value); }

  nameOf(name) { return name === "epistemic" ? name + this.mark : name; }

  fillMaps() {
    const names = this.layers.filter((layer) => layer.kind === "map").map((layer) => layer.name);
    this.elements.map.replaceChildren(...["none", ...names].map((name) => new Option(this.nameOf(name), name)));
    this.elements.map.value = names.includes(this.map) || this.map === "none" ? this.map : names[0] || "none";
  }

  fillLegend() {
    const groups = this.layers.filter((layer) => layer.kind === "outline").map((layer) => {
      const label = document.createElement("label");
      const box = document.createElement("input");
      box.type = "checkbox";
      box.checked = this.visible[layer.name];
      box.dataset.outline = layer.name;
      box.addEventListener("change", () => { this.visible[layer.name] = box.checked; this.showMap(); });
      label.append(box, layer.name + ":");
      layer.labels.forEach((name, index) => {
        const swatch = document.createElement("span");
        swatch.className = "swatch";
        swatch.style.background = `rgb(${colourOf(layer, index)})`;
        if (layer.name === "prediction" && index === 0) swatch.style.outline = "1px solid #888";
        label.append(swatch, name);
      });
      if (!layer.labels.length) label.append("nothing");
      return label;
    });
    this.elements.legend.replaceChildren(...groups);
  }

  showMap() {
    const shown = this.mapIndex();
    const part = Number(this.elements.scale.value);
    this.paint();
    this.layers.forEach((layer, index) => {
      const volume = this.niivue.volumes[index];
      if (layer.kind === "map") {
        volume.opacity = index === shown ? Number(this.elements.opacity.value) : 0;
        volume.cal_max = (layer.maximum || 1) * part;
      } else if (layer.kind === "outline") {
        volume.opacity = this.visible[layer.name] ? 1 : 0;
      }
    });
    const layer = this.layers[shown];
    this.elements.scale.disabled = !layer;
    this.elements.scaleValue.textContent = layer ? `${(layer.maximum * part).toPrecision(3)} ${layer.unit}` : "";
    this.niivue.updateGLVolume();
  }

  showPlane() {
    const plane = Number(this.elements.plane.value);
    this.niivue.setSliceType(plane);
    const count = this.niivue.volumes[0].dimsRAS[PLANE_AXES[plane] + 1];
    this.elements.slice.max = String(count - 1);
    this.elements.slice.disabled = count < 2;
    this.niivue.createOnLocationChange();
    this.updateSlice();
    this.repaint();
  }

  stepSample(direction) {
    if (!this.numSamples) return;
    const states = this.numSamples + 1;
    this.sample = (this.sample + direction + states) % states;
    this.tellSample();
    this.repaint();
  }

  tellSample() {
    const { sample, numSamples } = this;
    this.elements.sampleValue.textContent = sample ? `sample ${sample} of ${numSamples}` : `${numSamples} samples (keys ← →)`;
  }

  voxelAt(mm) { return this.entry.to_voxel.map((row) => Math.round(row[0] * mm[0] + row[1] * mm[1] + row[2] * mm[2] + row[3])); }

  // Axes of the file that the planes which are shown are perpendicular to.
  shownAxes() {
    const plane = Number(this.elements.plane.value);
    const patient = this.entry.to_voxel.map((row) => [0, 1, 2].reduce((best, axis) => (Math.abs(row[axis]) > Math.abs(row[best]) ? axis : best), 0));
    return [0, 1, 2].filter((axis) => plane === 3 || patient[axis] === PLANE_AXES[plane]);
  }

  // Draws again if another slice, plane or sample is to be seen; many moves within a frame are one.
  repaint() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      if (this.paint()) this.niivue.updateGLVolume();
    });
  }

  // Writes the outlines of the slices that are shown into their volumes; says whether any has changed.
  paint() {
    const size = [...this.entry.shape].reverse();
    const axes = this.shownAxes();
    const mm = this.niivue.frac2mm(this.niivue.scene.crosshairPos);
    const centre = this.voxelAt(mm).map((index, axis) => Math.min(size[axis] - 1, Math.max(0, index)));
    const place = [...axes.map((axis) => `${axis}:${centre[axis]}`), this.sample].join();
    if (place === this.place) return false;
    this.place = place;
    const count = size[0] * size[1] * size[2];
    this.layers.forEach((layer, index) => {
      const mask = layer.kind === "outline" ? this.masks[layer.name] : undefined;
      if (!mask) return;
      const values = this.niivue.volumes[index].img;
      if (layer.name in this.painted) for (const voxel of this.painted[layer.name]) values[voxel] = 0;
      else values.fill(0);
      const found = [];
      if (mask.kind !== "samples" || this.sample) {
        const offset = mask.kind === "samples" ? (this.sample - 1) * count : 0;
        outlineVoxels(mask, offset, size, centre, axes, (voxel, value) => { values[voxel] = value; found.push(voxel); });
      }
      this.painted[layer.name] = found;
    });
    return true;
  }

  moveTo(index) {
    const axis = PLANE_AXES[this.elements.plane.value];
    const place = [...this.niivue.scene.crosshairPos];
    place[axis] = (index + 0.5) / this.niivue.volumes[0].dimsRAS[axis + 1];
    this.moveCrosshair(place);
  }

  // Shows the centre of a lesion, counted from 0.
  goTo(lesion) { this.moveCrosshair(this.niivue.mm2frac(this.entry.lesions_mm[lesion])); }

  moveCrosshair(place) {
    this.niivue.scene.crosshairPos = place;
    this.niivue.drawScene();
    this.niivue.createOnLocationChange();
  }

  updateSlice() {
    const axis = PLANE_AXES[this.elements.plane.value];
    const count = this.niivue.volumes[0].dimsRAS[axis + 1];
    const index = Math.min(count - 1, Math.max(0, Math.floor(this.niivue.scene.crosshairPos[axis] * count)));
    this.elements.slice.value = String(index);
    this.elements.sliceValue.textContent = `${index + 1} of ${count}`;
  }

  describe(place) {
    this.updateSlice();
    const layer = this.layers[this.mapIndex()];
    const value = layer && place.values[this.mapIndex()] ? place.values[this.mapIndex()].value : null;
    // As the file counts, which NiiVue does not where axes are flipped.
    const voxel = this.voxelAt(place.mm).join(", ");
    this.repaint();
    this.elements.location.textContent = `voxel (x, y, z) = ${voxel}` + (value === null ? "" : `; ${this.nameOf(layer.name)} ${value.toPrecision(3)} ${layer.unit}`);
  }
}

function loadVolume(layer) {
  return niivue.NVImage.loadFromBase64({
    base64: document.getElementById(layer.element).textContent, name: layer.name + ".nii.gz",
    colormap: layer.kind === "map" ? "inferno" : "gray", opacity: layer.kind === "image" ? 1 : 0,
    cal_min: 0, cal_max: layer.kind === "map" ? layer.maximum || 1 : layer.kind === "outline" ? Math.max(1, layer.labels.length) : 255,
  });
}

// Calls draw(voxel, value) for the border of each class, or of the mask of each bit, in the slices through the centre that are perpendicular
// to the axes: voxels with a neighbour in the slice that is not of it. A voxel of several of the slices must be on the
// border in each, else one slice would draw a line through another.
function outlineVoxels(mask, offset, size, centre, axes, draw) {
  const strides = [1, size[0], size[0] * size[1]];
  const numbers = mask.kind === "bits" ? Array.from({ length: 16 }, (_, bit) => bit + 1).filter((number) => mask.used & (1 << (number - 1))) : [0];
  const values = mask.values;
  for (const number of numbers) {
    const bit = number ? 1 << (number - 1) : 0;
    const same = bit ? (voxel) => (values[offset + voxel] & bit) !== 0 : null;
    const isBorder = (point, voxel, fixed, value) => [0, 1, 2].some((axis) => axis !== fixed && [-1, 1].some((way) => {
      const other = point[axis] + way;
      if (other < 0 || other >= size[axis]) return true;
      const neighbour = voxel + way * strides[axis];
      return same ? !same(neighbour) : values[offset + neighbour] !== value;
    }));
    for (const fixed of axes) {
      const [first, second] = [0, 1, 2].filter((axis) => axis !== fixed);
      const point = [...centre];
      for (point[second] = 0; point[second] < size[second]; point[second]++) {
        for (point[first] = 0; point[first] < size[first]; point[first]++) {
          const voxel = point[0] + point[1] * strides[1] + point[2] * strides[2];
          const value = values[offset + voxel];
          if (bit ? !same(voxel) : !value) continue;
          if (axes.every((axis) => point[axis] !== centre[axis] || isBorder(point, voxel, axis, value))) draw(voxel, number || value);
        }
      }
    }
  }
}

function colourOf(layer, index) {
  if (layer.name in MASK_COLOURS) return MASK_COLOURS[layer.name];
  const colours = layer.name === "prediction" ? PREDICTION_COLOURS : layer.name === "samples" ? SAMPLE_COLOURS : OUTLINE_COLOURS;
  return colours[index % colours.length];
}

// A look-up table of 256 steps for the values from 0 to the number of labels; 0 is transparent.
function outlineColours(layer) {
  const table = { R: [], G: [], B: [], A: [], I: [] };
  for (let step = 0; step < 256; step++) {
    const label = Math.round((step / 255) * Math.max(1, layer.labels.length));
    const [red, green, blue] = label ? colourOf(layer, label - 1) : [0, 0, 0];
    table.R.push(red); table.G.push(green); table.B.push(blue); table.A.push(label ? 255 : 0); table.I.push(step);
  }
  return table;
}
