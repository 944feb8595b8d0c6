() => [...document.querySelectorAll("button, input, textarea, select, a[href]")]
.filter((one) => one.checkVisibility() && !(one.labels?.length || one.ariaLabel || one.title
    || one.textContent.trim() || one.querySelector("img[alt]:not([alt=''])") || one.closest("label")))
.map((one) => one.outerHTML.slice(0, 120))
