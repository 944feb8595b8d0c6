() => {
    const one = document.activeElement;
    if (one === document.body) return "BODY";
    const ring = getComputedStyle(one);
    const box = one.closest("label, .sn-text, #message, .wrap") ?? one;
    const shown = ring.outlineStyle !== "none" || ring.boxShadow !== "none"
        || getComputedStyle(box).outlineStyle !== "none" || getComputedStyle(box).boxShadow !== "none";
    const name = one.getAttribute("aria-label") || one.textContent.trim() || one.value || one.tagName;
    return (shown ? "" : "NO RING: ") + name.slice(0, 40);
}
