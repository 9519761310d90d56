"use strict";
(() => {
  const narrow = () => window.innerWidth < 640;

  /** One board: its filters, its sortable table and its chart. A picked row stays picked when the axis changes. */
  class BoardView {
    constructor(section) {
      this.section = section;
      this.find = (selector) => section.querySelector(selector);
      this.table = this.find("[data-table]");
      this.body = this.table.tBodies[0];
      this.rows = [...this.body.rows];
      this.search = this.find("[data-search]");
      this.axisSelect = this.find("[data-axis]");
      this.frontOnly = this.find("[data-front-only]");
      this.allDrops = this.find("[data-all-drops]");
      this.families = [...section.querySelectorAll("input[data-family]")];
      this.status = this.find("[data-status]");
      this.box = this.find("[data-chart]");
      const source = this.find("[data-charts]");
      this.specifications = source ? JSON.parse(source.textContent) : {};
      this.axis = this.axisSelect ? this.axisSelect.value : Object.keys(this.specifications)[0];
      this.picked = null;
      this.view = null;
      this.drawing = 0;
      this.openControls();
      this.makeSortable();
      this.makePickable();
      this.filter();
      this.drawWhenNear();
    }

    /** Keep the static picture until the reader scrolls near it. */
    drawWhenNear() {
      if (!this.box) return;
      const observer = new IntersectionObserver((entries) => {
        if (!entries.some((entry) => entry.isIntersecting)) return;
        observer.disconnect();
        if (!this.view) this.draw();
      }, { rootMargin: "400px" });
      observer.observe(this.box);
    }

    openControls() {
      this.find("[data-controls]").hidden = false;
      for (const box of this.families) {
        box.hidden = false;
        box.addEventListener("change", () => this.filter());
      }
      this.search.addEventListener("input", () => this.filter());
      this.frontOnly?.addEventListener("change", () => this.filter());
      this.allDrops?.addEventListener("change", () => this.setFloor());
      this.axisSelect?.addEventListener("change", () => {
        this.axis = this.axisSelect.value;
        this.markFronts();
        this.filter();
        this.draw();
      });
      this.find("[data-reset]").addEventListener("click", () => this.reset());
    }

    reset() {
      this.search.value = "";
      for (const box of this.families) box.checked = true;
      if (this.frontOnly) this.frontOnly.checked = false;
      if (this.allDrops) this.allDrops.checked = false;
      this.pick(null);
      this.setFloor();
      this.filter();
    }

    onFront(row) {
      return Boolean(JSON.parse(row.dataset.fronts)[this.axis]?.on);
    }

    /** Mark the rows on the front of the chosen axis, and fill the front's column. */
    markFronts() {
      for (const row of this.rows) {
        row.classList.toggle("front", this.onFront(row));
        const cell = row.querySelector("[data-front]");
        const front = JSON.parse(row.dataset.fronts)[this.axis];
        if (!cell || !front) continue;
        cell.textContent = front.text;
        cell.dataset.value = front.value;
      }
    }

    filter() {
      const words = this.search.value.trim().toLowerCase();
      const shown = new Set(this.families.filter((box) => box.checked).map((box) => box.dataset.family));
      const visible = [];
      for (const row of this.rows) {
        const named = row.querySelector("th").textContent.toLowerCase().includes(words);
        const fits = named && shown.has(row.dataset.family) && (!this.frontOnly?.checked || this.onFront(row));
        row.hidden = !fits;
        if (fits) visible.push(row.dataset.id);
      }
      this.visible = visible.length === this.rows.length ? null : visible;
      const axis = this.axisSelect ? `; front against ${this.axisSelect.selectedOptions[0].text}` : "";
      this.status.textContent = `${visible.length} of ${this.rows.length} rows shown${axis}`;
      this.signal("visible", this.visible);
    }

    setFloor() {
      const below = this.find("[data-below]");
      if (below) below.hidden = Boolean(this.allDrops?.checked);
      this.draw();
    }

    signal(name, value) {
      if (this.view) this.view.signal(name, value).runAsync();
    }

    makeSortable() {
      for (const [index, head] of [...this.table.tHead.rows[0].cells].entries()) {
        const button = document.createElement("button");
        button.type = "button";
        const arrow = document.createElement("span");
        arrow.className = "arrow";
        arrow.setAttribute("aria-hidden", "true");
        arrow.textContent = "↕";
        button.append(...head.childNodes);
        button.firstChild.after(arrow);
        head.append(button);
        button.addEventListener("click", () => this.sort(index, head));
      }
    }

    sort(index, head) {
      const falling = head.getAttribute("aria-sort") === "ascending";
      for (const other of this.table.tHead.rows[0].cells) {
        other.removeAttribute("aria-sort");
        other.querySelector(".arrow").textContent = "↕";
      }
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      head.querySelector(".arrow").textContent = falling ? "↓" : "↑";
      const numeric = "numeric" in head.dataset;
      const value = (row) => row.cells[index].dataset.value;
      const compare = (a, b) => (numeric ? Number(a) - Number(b) : a.localeCompare(b));
      this.rows.sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        if (x === "" || y === "") return (x === "") - (y === "");
        return falling ? compare(y, x) : compare(x, y);
      });
      this.body.append(...this.rows);
    }

    makePickable() {
      for (const row of this.rows) {
        const name = row.querySelector("[data-name]");
        if (!name || !Object.keys(this.specifications).length) continue;
        const button = document.createElement("button");
        button.type = "button";
        button.setAttribute("aria-pressed", "false");
        button.title = "Mark in the chart";
        button.append(...name.childNodes);
        name.append(button);
        button.addEventListener("click", () => {
          this.pick(this.picked === row.dataset.id ? null : row.dataset.id);
          this.draw();
        });
      }
    }

    pick(id) {
      this.picked = id;
      for (const row of this.rows) {
        row.classList.toggle("picked", row.dataset.id === id);
        row.querySelector("[data-name] button")?.setAttribute("aria-pressed", String(row.dataset.id === id));
      }
    }

    async draw() {
      if (!this.box || !window.vegaEmbed || !this.specifications[this.axis]) return;
      const turn = ++this.drawing;
      const specification = JSON.parse(JSON.stringify(this.specifications[this.axis]));
      specification.width = "container";
      specification.autosize = { type: "fit-x", contains: "padding" };
      if (narrow()) {
        specification.height = 330;
        specification.layer = specification.layer.filter((layer) => layer.mark.type !== "text");
      }
      for (const parameter of specification.params ?? []) {
        if (parameter.name === "visible") parameter.value = this.visible ?? null;
        if (parameter.name === "floor" && this.allDrops?.checked) parameter.value = Number(this.allDrops.value);
        if (parameter.name === "pick" && this.picked !== null) parameter.value = [{ id: this.picked }];
      }
      const stage = document.createElement("div");
      stage.style.width = "100%";
      this.box.append(stage);
      const options = { actions: false, renderer: "svg" };
      const result = await window.vegaEmbed(stage, specification, options);
      if (turn !== this.drawing) {
        result.finalize();
        stage.remove();
        return;
      }
      this.box.replaceChildren(stage);
      this.box.classList.add("live");
      this.box.dataset.drawn = this.axis;
      this.view = result.view;
      this.view.addSignalListener("pick", (_, value) => this.pick(value?.id?.[0] ?? null));
      this.signal("visible", this.visible);
    }
  }

  for (const section of document.querySelectorAll("[data-board]")) {
    try {
      new BoardView(section);
    } catch (error) {
      console.error(error);
    }
  }
})();
