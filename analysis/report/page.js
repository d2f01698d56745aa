"use strict";
for (const cell of document.querySelectorAll("td")) cell.dataset.word = cell.textContent.trim();

const box = document.getElementById("compare");
if (box) {
  const sources = JSON.parse(document.getElementById("sources").textContent);
  const part = (name) => box.querySelector("." + name);
  const show = (side, index) => {
    const image = part(side);
    image.src = sources[index].source;
    image.alt = sources[index].name;
    part(side + "-name").value = index;
    if (side === "right") {
      part("which").value = index;
      part("remark").textContent = sources[index].name + "  " + sources[index].remark;
    }
  };
  part("wipe").addEventListener("input", (event) => part("pair").style.setProperty("--at", event.target.value + "%"));
  part("left-name").addEventListener("change", (event) => show("left", Number(event.target.value)));
  part("right-name").addEventListener("change", (event) => show("right", Number(event.target.value)));
  part("which").addEventListener("input", (event) => show("right", Number(event.target.value)));
  show("right", 1);
}
