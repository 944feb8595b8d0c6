() => {
    const known = /^(Snug|EN|CPU|GPU|RAM|KV|Top-p|Shift|Enter|Esc|AVX.*|GB|MB|TB|hello|fake|transformers|NVIDIA|fp32|bf16|I see.*)$/;
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const found = [];
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
        const owner = node.parentElement;
        if (!owner.checkVisibility() || owner.closest("script, style, title, .sn-text, .sn-markdown")) continue;
        for (const word of node.textContent.match(/[A-Za-z][A-Za-z-]{2,}[0-9]*/g) ?? [])
            if (!known.test(word)) found.push(word + " in: " + node.textContent.trim().slice(0, 60));
    }
    return found;
}
